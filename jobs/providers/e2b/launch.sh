# Starts the program that was uploaded into $INCOMING, once: whoever comes second finds it started.
#
# INCOMING and NAME are folders in the home folder. A folder is renamed only into a place that is free, so of several
# uploads exactly one becomes the program, whole, and is never written to again by us.
cd "$HOME" || exit 1
if [ ! -d "$NAME" ]; then
    mv -T "$INCOMING" "$NAME" 2>/dev/null || [ -d "$NAME" ] || exit 3
fi
rm -rf "$INCOMING"
setsid nohup bash "$NAME/.runwire/run.sh" >/dev/null 2>&1 </dev/null &
for _ in $(seq 1 500); do
    [ -e "$NAME/.runwire/pid" ] && exit 0
    sleep 0.02
done
exit 4
