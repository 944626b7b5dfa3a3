"""A small synthetic audiovisual world, so that everything runs with no network.

Coloured shapes that move and sounds of different kind, pitch and rhythm, on a grid of visual and sound
classes; captions that name both; real mp4 files, served by a local HTTP server. Neither eye nor ear alone
can tell the clips of the test split apart: each pair of classes is there once.

    world = make_world(Path("demo-world"))
    with serve(world.media) as server:
        ...  # fetch from server.url_template
"""

from valor_data.demo.plan import Truth, WorldSettings
from valor_data.demo.serve import Fault, MediaServer, Request, serve
from valor_data.demo.world import World, make_world

__all__ = ["Fault", "MediaServer", "Request", "Truth", "World", "WorldSettings", "make_world", "serve"]
