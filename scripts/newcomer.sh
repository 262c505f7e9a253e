#!/usr/bin/env bash
# What a newcomer does, on a new Debian: bash scripts/newcomer.sh FOLDER
# As root, with debootstrap. A plain Debian 12 is made in FOLDER, the commit that is checked out is put
# into it, and a user of it installs what the tutorials name, and follows them as they are printed.
# It takes 4 GB and some minutes; what it made stays in FOLDER, and is used again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=${1:?got no folder, expected one for a new Debian, with 4 GB of space}
checkout=$root/home/ann/emotion-monitor

if [ ! -d "$root/etc/apt" ]; then
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root"
  chroot "$root" useradd --create-home --shell /bin/bash ann
fi

# The package index of this machine, and the certificates that it is known by.
cp /etc/resolv.conf "$root/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
if [ -f /etc/pip.conf ]; then cp /etc/pip.conf "$root/etc/"; else rm -f "$root/etc/pip.conf"; fi
# Without this folder of wheels, run.sh asks PyTorch's own index for the CPU build of torch.
if [ -d "${PIP_FIND_LINKS:-}" ]; then
  mkdir -p "$root/wheels"
  cp -u "$PIP_FIND_LINKS"/*.whl "$root/wheels/"
  printf '\n[install]\nfind-links = /wheels\n' >>"$root/etc/pip.conf"
fi

# What an installer writes and debootstrap does not.
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"

mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
trap 'umount "$root/dev" "$root/proc"' EXIT

mkdir -p "$checkout"
git archive HEAD | tar -x -C "$checkout"
chroot "$root" chown -R ann:ann /home/ann

# Nothing of this machine's environment.
as_newcomer() { chroot "$root" /usr/bin/env -i su - ann -c "cd emotion-monitor && $*"; }
as_newcomer bash run.sh --extras tables --setup-only
as_newcomer .venv/bin/python -m scripts.walk_tutorials /home/ann/tutorials

# The first tutorial, as far as a script sees what its reader does.
(exec chroot "$root" /usr/bin/env -i su - ann -c "cd emotion-monitor && exec bash run.sh --demo") &
su=$!
as_newcomer .venv/bin/python -m scripts.walk_tutorials --demo
# Not su itself: two seconds after it has passed the signal on, it kills, and a call may still be closing.
kill "$(ps -o pid= --ppid "$su")"
wait "$su" || true
