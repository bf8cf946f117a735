#!/bin/sh
# What the tests use besides Go. Tests skip, and say so, where one is missing.
need="rsync iproute2 e2fsprogs xfsprogs btrfs-progs acl attr samba samba-vfs-modules smbclient python3-samba samba-ad-dc samba-ad-provision samba-dsdb-modules winbind libnss-winbind etcd-server etcd-client gcc libc6-dev"

command -v dpkg-query >/dev/null || {
	echo "deps: not a Debian system; the tests use: $need"
	exit 0
}
missing=
for p in $need; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "deps: not root, so tests that need these will skip. To install them: sudo apt-get install -y$missing"
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # a list of words
if apt-get update -qq </dev/null && apt-get install -y -qq --no-install-recommends $missing </dev/null >/dev/null; then
	echo "deps: installed$missing"
	case "$missing" in *etcd*)
		command -v systemctl >/dev/null && systemctl disable -q --now etcd 2>/dev/null || : ;;
	esac
	case "$missing" in *samba* | *winbind*) # the stories start their own
		command -v systemctl >/dev/null && systemctl disable -q --now smbd nmbd samba-ad-dc winbind 2>/dev/null || : ;;
	esac
else
	echo "deps: apt-get could not install:$missing; tests that need them will skip"
fi
