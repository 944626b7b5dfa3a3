"""VALOR's reference trainer: reads shards and nothing else."""
