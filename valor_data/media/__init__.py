"""Media files in, numbers and pictures out: the only caller of PyAV, ffmpeg-python and torchaudio.

Import what you need from the submodule that has it (`valor_data.media.measure.measure_clip`, …); this
package itself imports nothing, so that a command that touches no media pays for none of these libraries.

Every time is in seconds from second 0 of a video, its container's start time. A file may hold a piece of
a video only: then `offset_seconds` is the second of the video at which the file's own second 0 lies.
"""
