"""The demonstration's root file system: busybox, a real nginx with its libraries, four small scripts. No Python."""

from __future__ import annotations

from pathlib import Path

from integration.lab import cache, roots
from ocelot.errors import OcelotError

_NGINX_CONF = """\
user www-data;
worker_processes 1;
error_log stderr notice;
pid /run/nginx.pid;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
    server { listen 80; root /var/www; }
}
"""

_PREPARE = """\
echo "<h1>$GREETING</h1><p>Kernel $(uname -r), PID 1 is $(cat /proc/1/comm).</p>" > /var/www/index.html
echo "the page is written"
"""

_FLAKY = """\
echo "working, but not for long"
sleep 4
echo "this is too much" >&2
exit 3
"""

_VISITOR = """\
IFS= read -r line
eval "$line" 2>&1
"""


def make(folder: Path) -> Path:
    """Make the tree in ``folder``. Raises OcelotError without an nginx."""
    nginx = cache.daemon("nginx", "/usr/sbin/nginx")
    if nginx is None:
        raise OcelotError("cannot make the demonstration's root: there is no nginx", hint="run: make machine")
    tree = roots.busybox(folder)
    roots.with_libraries(tree, nginx.program, nginx.environment, "/usr/sbin/nginx")
    (tree / "etc/nginx").mkdir()
    (tree / "etc/nginx/nginx.conf").write_text(_NGINX_CONF)
    (tree / "usr/share/nginx").mkdir(parents=True)
    roots.script(tree, "/srv/boot", 'echo "the boot script runs as pid $$, before every process"\n')
    roots.script(tree, "/srv/prepare", _PREPARE)
    roots.script(tree, "/srv/flaky", _FLAKY)
    roots.script(tree, "/srv/visitor", _VISITOR)
    return tree
