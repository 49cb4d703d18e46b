"""A real RTSP server that takes a stream: GStreamer's, in RECORD mode, with a password where one is given.

Usage: /usr/bin/python3 rtsp_recorder.py PORT FILE [USER PASSWORD]
What it is sent goes into FILE, as MPEG-TS. Prints "ready" once it takes connections.
Needs Debian's python3-gi, gir1.2-gst-rtsp-server-1.0.
"""

import sys

import gi

gi.require_version("GstRtspServer", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

port, file = sys.argv[1:3]
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
factory.set_launch(f"( rtph264depay name=depay0 ! h264parse ! mpegtsmux ! filesink location={file} async=false )")
role = "anonymous"
if len(sys.argv) > 3:
    user, password = sys.argv[3:5]
    token = GstRtspServer.RTSPToken()
    role = "sender"
    token.set_string("media.factory.role", role)
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    factory.add_role_from_structure(
        Gst.Structure.from_string(f"{role}, media.factory.access=true, media.factory.construct=true")[0]
    )
server.get_mount_points().add_factory("/live", factory)
if server.attach(None) == 0:
    sys.exit("the port is taken")
print("ready", flush=True)
GLib.MainLoop().run()
