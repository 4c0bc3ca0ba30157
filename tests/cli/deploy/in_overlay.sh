#!/bin/sh
# Installs, upgrades, removes and purges a package on a copy of this system that goes away with this process.
# Usage: unshare --mount sh in_overlay.sh PACKAGE
set -eu

package="$(readlink -f "$1")"
work="$(mktemp -d)"
mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/system"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/system"
mount --rbind /proc "$work/system/proc"
mount --rbind /dev "$work/system/dev"
mkdir -p "$work/system/tmp/package"
cp "$package" "$work/system/tmp/package/holdfast.deb"
chroot "$work/system" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -eu <<'INSIDE'
dpkg --purge holdfast >/dev/null 2>&1 || true
rm -rf /var/lib/holdfast /etc/holdfast
wants=/etc/systemd/system/multi-user.target.wants/holdfast.service
dpkg -i /tmp/package/holdfast.deb
echo "installed: $?"
echo "runs: $(holdfast --version)"
echo "owner of the data directory: $(stat -c '%U %a' /var/lib/holdfast)"
[ -L "$wants" ] && echo enabled
touch /var/lib/holdfast/holdfast.db
echo "# of the operator" >>/etc/holdfast/holdfast.toml
dpkg -i /tmp/package/holdfast.deb
echo "upgraded: $?"
grep -q "of the operator" /etc/holdfast/holdfast.toml && echo "configuration of the operator stays"
dpkg -r holdfast
echo "removed: $?"
dpkg -i /tmp/package/holdfast.deb
echo "again: $(readlink -f /etc/systemd/system/holdfast.service) $(readlink "$wants")"
for more in vault switcher; do ln -s /lib/systemd/system/holdfast-$more.service /etc/systemd/system/multi-user.target.wants/; done
dpkg -P holdfast
echo "purged: $?"
[ -e /var/lib/holdfast/holdfast.db ] && [ ! -e /usr/bin/holdfast ] && echo "data stays"
[ ! -L "$wants" ] && echo disabled
ls /etc/systemd/system/multi-user.target.wants | grep holdfast || echo "no link is left"
INSIDE
umount --lazy "$work/system" "$work" || true
rmdir "$work" || true
