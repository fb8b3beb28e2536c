#!/bin/sh
# install.sh asks for what is missing and for nothing else, and says in one sentence what it could not do.
# apt-get, dpkg-query, id and sudo are stand-ins here; nothing is installed.
set -eu
mkdir "$TEST_DIR/bin"
PATH=$TEST_DIR/bin:$PATH
stand_in() { # NAME, script on stdin
    { echo '#!/bin/sh'; cat; } >"$TEST_DIR/bin/$1"
    chmod +x "$TEST_DIR/bin/$1"
}
stand_in dpkg-query <<'END'
for package in "$@"; do :; done
case " ${MISSING:-} " in *" $package "*) exit 1 ;; *) printf 'install ok installed' ;; esac
END
stand_in apt-get <<'END'
echo "apt-get $*" >>"$TEST_DIR/calls"
[ "$1" != install ] && exit 0
[ "${APT:-works}" = works ] && exit 0
[ "$APT" = stale ] && grep -q 'apt-get update' "$TEST_DIR/calls"
END
echo 'echo "${FAKE_ID:-0}"' | stand_in id
echo 'echo "sudo $1" >>"$TEST_DIR/calls"; exec "$@"' | stand_in sudo

run() { # EXPECTED EXIT CODE, variables...
    want=$1
    shift
    : >"$TEST_DIR/calls"
    code=0
    env "$@" sh ./install.sh >"$TEST_DIR/said" 2>&1 || code=$?
    [ "$code" = "$want" ] || { echo "exit code $code, not $want, with $*"; cat "$TEST_DIR/said"; exit 1; }
}
says() { grep -q -e "$1" "$TEST_DIR/said" || { echo "did not say: $1"; cat "$TEST_DIR/said"; exit 1; }; }
calls() { [ "$(cut -d' ' -f1-2 "$TEST_DIR/calls" | tr '\n' ,)" = "$1" ] || { cat "$TEST_DIR/calls"; exit 1; }; }

run 0 MISSING=
[ ! -s "$TEST_DIR/said" ]
calls ""
run 0 MISSING="libgmp-dev libyaml-dev"
calls "apt-get install,"
grep -q 'recommends libyaml-dev libgmp-dev$' "$TEST_DIR/calls"
run 0 MISSING=libgmp-dev APT=stale
calls "apt-get install,apt-get update,apt-get install,"
run 1 MISSING=libgmp-dev APT=broken
says "could not install libgmp-dev"
run 0 MISSING=libgmp-dev FAKE_ID=1000
calls "sudo env,apt-get install,"
