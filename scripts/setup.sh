# Sourced by run.sh and test.sh: makes .venv in the checkout and installs into it.
# A stamp in .venv says what was installed, so that nothing is done where nothing changed.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
constraints=$root/requirements/constraints.txt
torch_version=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' "$constraints")

say() { echo "emotion-monitor: $*" >&2; }
fail() { say "$*"; exit 1; }

# pip of the virtual environment, held to the pinned versions.
pip_install() {
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$constraints" "$@"
}

is_supported() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
  local candidate seen=""
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python; do
    command -v "$candidate" >/dev/null || continue
    if is_supported "$candidate"; then
      command -v "$candidate"
      return
    fi
    seen=${seen:-"$("$candidate" --version 2>&1)"}
  done
  fail "got ${seen:-no Python}, expected Python 3.11, 3.12 or 3.13; install one, or name it with PYTHON=..."
}

make_venv() {
  if is_supported "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    return
  fi
  local python
  python=$(find_python) || exit 1
  say "making .venv with $("$python" --version)"
  "$python" -m venv --clear "$venv" >&2 ||
    fail "$python cannot make a virtual environment; on Debian and Ubuntu install python3-venv"
}

has_cuda_gpu() { nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

installed_torch() {
  "$venv/bin/python" -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null
}

# The CUDA build is gigabytes of packages that a machine without a GPU has no use for, and on Linux
# it is what a plain `torch` brings.
install_torch() {
  local log=$venv/torch-install.log
  if has_cuda_gpu || [ "$(uname -s)" != Linux ]; then
    case "$(installed_torch)" in
      "$torch_version+cpu") "$venv/bin/python" -m pip uninstall --quiet --yes torch ;;
      "$torch_version"*) return ;;
    esac
    say "installing torch $torch_version"
    pip_install "torch==$torch_version" || fail "torch $torch_version could not be installed"
    return
  fi
  case "$(installed_torch)" in "$torch_version"*) return ;; esac
  say "installing torch $torch_version for the CPU"
  # A local wheel or mirror may have the CPU build under its full version; elsewhere uv knows where
  # PyTorch keeps it.
  pip_install "torch==$torch_version+cpu" >"$log" 2>&1 ||
    { pip_install uv && "$venv/bin/python" -m uv pip install --quiet --torch-backend=cpu \
        --python "$venv/bin/python" --constraint "$constraints" "torch==$torch_version"; } \
        >>"$log" 2>&1 ||
    fail "the CPU build of torch $torch_version could not be installed; see ${log#"$root/"}"
}

# What the installed packages depend on: a change of any of it means to install again.
fingerprint() {
  "$venv/bin/python" - "$root/pyproject.toml" "$root"/requirements/*.txt "$root/scripts/setup.sh" <<'PYTHON'
import hashlib, pathlib, sys
content = [pathlib.Path(name).read_bytes() for name in sys.argv[1:]]
print(hashlib.sha256(b"\0".join([sys.version.encode(), *content])).hexdigest())
PYTHON
}

device() { if has_cuda_gpu; then echo cuda; else echo cpu; fi; }

# setup NAME EXTRAS [OPTIONAL_EXTRA...]: an optional extra that cannot be installed is reported and
# left out. NAME tells the stamps of different sets apart; "everything" holds all of them.
setup() {
  local name=$1 extras=$2 stamp wanted extra
  shift 2
  make_venv
  wanted="$(device) $(fingerprint)"
  for stamp in "$venv/.installed-everything" "$venv/.installed-$name"; do
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then return; fi
  done
  [ -f "$stamp" ] || say "setting up; the first time takes some minutes"
  say "installing packages"
  if [ $# = 0 ] || ! install_hashed "$(IFS=,; echo "${extras:+$extras,}$*")"; then
    install_hashed "$extras" ||
      fail "the packages could not be installed; is the package index reachable?"
    for extra in "$@"; do
      install_hashed "$extra" ||
        say "going on without the extra $extra; delete ${stamp#"$root/"} to try again"
    done
  fi
  install_torch
  install_self "$extras" ||
    fail "the packages could not be installed; is the package index reachable?"
  echo "$wanted" >"$stamp"
}

# install_hashed EXTRAS: what they need, but torch: the very files of requirements/hashes.txt. With
# --no-deps, so that nothing is installed that the file does not name. What only developers use has
# no hashes.
install_hashed() {
  local hashed=$venv/hashed.txt extras=,$1,
  extras=${extras//,dev,/,}
  "$venv/bin/python" "$root/scripts/hashed_requirements.py" "$extras" >"$hashed" &&
    pip_install --require-hashes --no-deps --requirement "$hashed"
}

# What builds the package is installed by its hash, too: nothing is fetched for that.
install_self() {
  # In front of || no command ends the script by itself.
  pip_install --no-deps --no-build-isolation --editable "$root" || return
  case ",$1," in *,dev,*) pip_install --no-build-isolation --editable "$root[$1]" ;; esac
}
