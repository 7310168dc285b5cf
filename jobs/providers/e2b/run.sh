# Runs .runwire/command in the folder above this one, at most once and at most .runwire/limit seconds.
#
# Its output is the file log. When it has ended, the log's last line says so, and then the file exit appears, whole:
#     <exit code> <seconds that it ran> <processes that the kernel killed for want of memory> <1 if its time was over>
cd "$(dirname "$0")/.." || exit 1
mkdir .runwire/started 2>/dev/null || exit 0
out_of_memory() { awk '$1 == "oom_kill" { print $2 }' /proc/vmstat 2>/dev/null; }
limit=$(cat .runwire/limit)
killed_before=$(out_of_memory)
: >>.runwire/log
echo "$(date +%s)" >.runwire/began
echo $$ >.runwire/pid.new && mv .runwire/pid.new .runwire/pid
export PYTHONUNBUFFERED=1

SECONDS=0
timeout --kill-after=10 "$limit" bash .runwire/command >>.runwire/log 2>&1 </dev/null
code=$?

seconds=$SECONDS
killed_after=$(out_of_memory)
is_over=0
# 124 is the time limit's own word; 137 if the program would not end and had to be killed.
if [ "$seconds" -ge "$limit" ] && { [ $code -eq 124 ] || [ $code -eq 137 ]; }; then is_over=1; fi
[ -n "$(tail -c 1 .runwire/log)" ] && echo >>.runwire/log
echo "::runwire {\"exit\": $code}" >>.runwire/log
echo "$code $seconds $((${killed_after:-0} - ${killed_before:-0})) $is_over" >.runwire/exit.new
mv .runwire/exit.new .runwire/exit
