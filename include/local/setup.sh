#!/usr/bin/env bash
# Sets up one machine inside one folder: the locked environment, Java, Delta's jars, the class-data archive.
# Usage: setup.sh HUB [--which-uv]. Each step leaves a stamp and is skipped while the stamp fits.
set -euo pipefail

HUB=${1:?the folder of everything that is made, usually .hub}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
PYTHON_RANGE='>=3.11,<3.14'
JAVA_MINIMUM=17
DELTA_GROUP=io.delta

say() { printf '%s\n' "$*"; }
die() { printf 'set-up stopped: %s\n' "$*" >&2; exit 1; }

# Prints the path of uv; installs it beside the environment when the machine has none.
find_uv() {
  local tools="$HUB/tools"
  if command -v uv; then return; fi
  if [[ -x $tools/bin/uv ]]; then printf '%s\n' "$tools/bin/uv"; return; fi
  say "uv is missing: installing it into $tools" >&2
  if python3 -m venv "$tools" >&2 && "$tools/bin/python" -m pip install --quiet uv >&2; then
    printf '%s\n' "$tools/bin/uv"; return
  fi
  # Debian's python3 may come without ensurepip; pip itself may still be there.
  rm -rf "$tools"
  if python3 -m pip install --quiet --user uv >&2 && [[ -x $HOME/.local/bin/uv ]]; then
    printf '%s\n' "$HOME/.local/bin/uv"; return
  fi
  die "no uv, and it could not be installed. To do: apt-get install python3-venv, or pipx install uv; then the same again"
}

make_environment() {
  local stamp="$HUB/stamps/environment" wanted uv python
  wanted=$(sha256sum < "$ROOT/requirements.txt")
  if [[ -x $HUB/venv/bin/python && -f $stamp && $(< "$stamp") == "$wanted" ]]; then return; fi
  uv=$(find_uv)
  if [[ ! -x $HUB/venv/bin/python ]]; then
    python=$("$uv" python find "$PYTHON_RANGE" 2>/dev/null) || {
      say "No Python $PYTHON_RANGE on this machine: uv fetches one"
      "$uv" python install --quiet 3.11 || die "no Python $PYTHON_RANGE. To do: apt-get install python3.11, or pyenv install 3.11"
      python=$("$uv" python find "$PYTHON_RANGE")
    }
    "$uv" venv --quiet --clear --python "$python" "$HUB/venv"
  fi
  say "Environment from requirements.txt: about 7 GB, most of it torch; 1 to 6 minutes the first time"
  "$uv" pip sync --quiet --compile-bytecode --python "$HUB/venv/bin/python" "$ROOT/requirements.txt" \
    || die "the environment could not be made; uv says why above. To do: correct that, then the same again"
  printf '%s\n' "$wanted" > "$stamp"
}

# Prints the major version of a Java home, or 0.
java_version() {
  local text
  text=$("$1/bin/java" -version 2>&1) || { say 0; return; }
  if [[ $text =~ version\ \"([0-9]+) ]]; then say "${BASH_REMATCH[1]}"; else say 0; fi
}

# Prints the first Java home that is new enough.
search_java() {
  local path home
  path=$(command -v java || true)
  for home in "${JAVA_HOME:-}" "${path:+$(dirname "$(dirname "$(readlink -f "$path")")")}" /usr/lib/jvm/*; do
    if [[ -n $home && -x $home/bin/java ]] && (( $(java_version "$home") >= JAVA_MINIMUM )); then
      readlink -f "$home"; return
    fi
  done
  return 1
}

find_java() {
  local home
  if [[ -x $HUB/java/bin/java ]]; then return; fi
  if ! home=$(search_java); then
    local command="apt-get update && apt-get install -y openjdk-17-jre-headless"
    if (( EUID != 0 )) || ! command -v apt-get > /dev/null; then
      die "no Java $JAVA_MINIMUM or later in JAVA_HOME, on PATH or in /usr/lib/jvm. To do: sudo sh -c '$command' (Debian, Ubuntu), or your system's OpenJDK; then the same again"
    fi
    say "Java $JAVA_MINIMUM is missing: installing openjdk-17-jre-headless"
    { apt-get update && apt-get install -y openjdk-17-jre-headless; } > "$HUB/logs/java.log" 2>&1 \
      || die "Java could not be installed, see $HUB/logs/java.log. To do: $command"
    home=$(search_java) || die "openjdk-17-jre-headless is installed, but no Java $JAVA_MINIMUM was found. To do: set JAVA_HOME"
  fi
  ln -sfn "$home" "$HUB/java"
}

check_jars() { (cd "$HUB/jars" && sha256sum --check --status "$HERE/jars.sha256"); }

# Ivy comes with Spark's wheel, and knows where jars are kept; what it brings is checked against our pins.
fetch_jars() {
  local log="$HUB/logs/jars.log" spark name
  mkdir -p "$HUB/jars"
  if check_jars 2> /dev/null; then return; fi
  say "Delta's jars: 10 MB"
  spark=$("$HUB/venv/bin/python" -c 'import importlib.util as i; print(i.find_spec("pyspark").submodule_search_locations[0])')
  rm -f "$HUB"/jars/*.jar
  while read -r _ name; do
    name=${name%.jar}
    "$HUB/java/bin/java" -cp "$spark/jars/*" org.apache.ivy.Main -cache "$HUB/ivy" -m2compatible -notransitive \
      -dependency "$DELTA_GROUP" "${name%-*}" "${name##*-}" -types jar -retrieve "$HUB/jars/[artifact]-[revision].[ext]" \
      >> "$log" 2>&1 || die "$name could not be fetched, see $log. To do: look at the network, then the same again"
  done < "$HERE/jars.sha256"
  check_jars || die "a jar in $HUB/jars is not the one pinned in include/local/jars.sha256. To do: find out why before you use it"
}

# A tool, not a step: where it cannot be made, jobs start slower and nothing else changes.
make_class_data() {
  PYTHONPATH="$ROOT/include:$ROOT/plugins" JAVA_HOME=$(readlink -f "$HUB/java") \
    "$HUB/venv/bin/python" -m local.class_data --home "$HUB"
}

mkdir -p "$HUB/stamps" "$HUB/logs"
HUB=$(cd "$HUB" && pwd)
if [[ ${2:-} == --which-uv ]]; then find_uv; exit; fi
# Two set-ups at once (make demo beside make test) would write over each other.
exec 9> "$HUB/setup.lock"
flock 9
make_environment
find_java
fetch_jars
make_class_data
