#!/bin/sh
# The user that the service runs as. Nothing is started.
set -e
if command -v systemd-sysusers > /dev/null; then
    systemd-sysusers infera-balancer.conf
elif ! getent passwd infera-balancer > /dev/null; then
    useradd --system --user-group --no-create-home --home-dir /var/lib/infera-balancer \
        --shell /usr/sbin/nologin infera-balancer
fi
install -d -m 0700 -o infera-balancer -g infera-balancer /var/lib/infera-balancer
