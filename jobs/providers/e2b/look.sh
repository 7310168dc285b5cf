# One look at the program in $HOME/$NAME. Waits up to $WAIT tenths of a second until its log is longer than $SEEN
# bytes, or it has ended; then prints one line of facts, and at most $LIMIT bytes of the log after $OFFSET as base64:
#     absent | <running|ended|gone> <bytes of the log> <when it began> <the file exit, if it has ended>
# Waiting costs nothing: it starts no process.
cd "$HOME/$NAME/.runwire" 2>/dev/null && [ -e pid ] || { echo absent; exit 0; }
read -r pid <pid
exec {idle}<> <(:)
rest() { read -r -t "$1" -u "$idle" || true; }
seen=".seen-$$"
: >"$seen"
rest 0.02 # a file system's clock is coarse: what is written from now on is newer than $seen
state=running
if [ ! -e exit ] && [ "$(stat -c %s log)" -le "$SEEN" ]; then
    for ((turn = 0; turn < WAIT; turn++)); do
        if [ -e exit ] || [ log -nt "$seen" ]; then break; fi
        kill -0 "$pid" 2>/dev/null || break
        rest 0.1
    done
    if [ ! -e exit ] && [ log -nt "$seen" ]; then rest 0.2; fi # a little more comes with the first output
fi
rm -f "$seen"
kill -0 "$pid" 2>/dev/null || state=gone
[ -e exit ] && state=ended # looked for after the process, and before the size: an end is told with the whole log
end=
[ $state = ended ] && read -r end <exit
echo "$state $(stat -c %s log) $(cat began) $end"
tail -c "+$((OFFSET + 1))" log | head -c "$LIMIT" | base64 -w 0
