# A training: what is to be installed, the data if it is not the program's own business, then the program.
say() { echo "::runwire {\"stage\": \"$1\"}"; }

if [ -s .runwire/prepare ]; then
    say INSTALLING
    bash .runwire/prepare || exit $?
fi
if [ -s .runwire/fetch_data.py ]; then
    say DOWNLOADING_DATA
    python3 .runwire/fetch_data.py || exit $?
fi
# The recipes' own program says by itself what it is doing.
[ -e .runwire/is_silent ] && say TRAINING
exec bash .runwire/main
