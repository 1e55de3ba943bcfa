#!/bin/sh
# What the image is made of: the wheel and what it needs, in one folder that is used and never written to.
#
#   install.sh WHEEL PREFIX      PYTHON names the interpreter, python3 by default
set -eu
wheel=$1 prefix=$2

"${PYTHON:-python3}" -m venv --without-pip "$prefix"
"${PYTHON:-python3}" -m pip --python "$prefix/bin/python" install --no-cache-dir --no-compile --quiet \
    --disable-pip-version-check "$wheel[swift,dask]"
"$prefix/bin/python" -m compileall -q -j 0 "$prefix/lib" > /dev/null || true # what cannot be compiled is never imported
# Any user of group 0 reads and runs it, as clusters that assign user ids want it; nobody writes.
chmod -R g=rX,o=rX "$prefix"
