"""A real RTSP server for the tests: GStreamer's, with an H.264 test picture, and a password where one is given.

Usage: /usr/bin/python3 rtsp_server.py PORT WIDTH HEIGHT [USER PASSWORD]
Prints "ready" once it takes connections. Needs Debian's python3-gi, gir1.2-gst-rtsp-server-1.0.
"""

import sys

import gi

gi.require_version("GstRtspServer", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

port, width, height = sys.argv[1:4]
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_shared(True)
factory.set_launch(
    f"( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width={width},height={height},framerate=15/1 "
    "! openh264enc gop-size=5 ! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 )"
)
if len(sys.argv) > 4:
    user, password = sys.argv[4:6]
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    factory.add_role_from_structure(
        Gst.Structure.from_string("viewer, media.factory.access=true, media.factory.construct=true")[0]
    )
server.get_mount_points().add_factory("/live", factory)
if server.attach(None) == 0:
    sys.exit("the port is taken")
print("ready", flush=True)
GLib.MainLoop().run()
