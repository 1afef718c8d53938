# One daemon after another; part of run.sh. across.c reports the client's view.
pid() { property MainPID; }
another_than() { [ "$(property ActiveState)" = active ] && [ "$(pid)" != "$1" ] && [ "$(pid)" != 0 ]; }
# goes_on RESTARTS WHAT COMMAND...: checks that a client running during the command gets chunks from this many further
# daemons.
goes_on() {
    local restarts=$1 what=$2 client log=$dir/across.log end=$((SECONDS + 240))
    shift 2
    within systemctl reset-failed pi0rtd
    as arm /home/arm/across >"$log" 2>&1 &
    client=$!
    until grep -q session "$log"; do kill -0 $client || break; sleep 0.1; done
    sleep 2
    "$@"
    until [ "$(grep -c "first chunk of the next" "$log")" -ge "$restarts" ] || [ $SECONDS -ge $end ]; do
        kill -0 $client 2>/dev/null || break
        sleep 0.2
    done
    within pkill -TERM -x across || true
    if wait $client && [ "$(grep -c "first chunk of the next" "$log")" -ge "$restarts" ]; then
        passed "$what"
    else
        failed "$what: expected $restarts more daemons"
    fi
    sed 's/^/      /' "$log"
}

step "Killed"
kill_times() {
    local was
    for _ in $(seq "$1"); do
        was=$(pid)
        within kill -KILL "$was"
        eventually "systemd starts another one" 20 another_than "$was"
        sleep 1
    done
}
goes_on 3 "a client goes on over three daemons that are killed, without opening anything" kill_times 3
check "nothing is kept of a client that has ended" test "$(property NFileDescriptorStore)" = 0

step "Upgraded"
reinstall() { check "the packages are installed over themselves" all_packages --reinstall; }
goes_on 1 "a client goes on over the upgrade" reinstall

step "Reloaded"
set_key() { within sed -i "s|^#\?$1 = .*|$1 = $2|" /etc/pi0rt/pi0rtd.toml; }
reload() {
    local was
    was=$(pid)
    set_key max_clients 1
    within systemctl reload pi0rtd
    sleep 1
    [ "$(pid)" = "$was" ] || { echo "it is another process"; return 1; }
    as arm controller --seconds 4 >/dev/null &
    sleep 1
    ! as arm controller --seconds 1 || { echo "a second client was served"; return 1; }
    wait $!
}
check "SIGHUP: the same process takes the new limit on clients" reload
wrong() {
    set_key max_clients 0
    within systemctl reload pi0rtd
    sleep 1
    journal --lines 5 | grep 'expected 1 to 1024' && as arm controller --seconds 1
}
check "SIGHUP with an error: it is logged, and the daemon goes on" wrong
check "pi0rtd --check-config finds it, too" within sh -c '! pi0rtd --check-config'
wrong_start() {
    ! within systemctl restart pi0rtd || { echo "it started"; return 1; }
    [ "$(property Result)" = exit-code ] && [ "$(property NRestarts)" = 0 ] && journal --lines 10 | grep 'pi0rtd.toml:.*expected 1 to 1024'
}
check "started with the error it fails once, and says where" wrong_start
set_key max_clients 16
within systemctl reset-failed pi0rtd

step "What the unit allows"
by="by the unit's limits"
if ! (ulimit -r 98 && ulimit -l unlimited) 2>/dev/null; then
    # The system call filter is the unit's in either case.
    by="by capabilities, as this machine lets no limit be raised"
    within mkdir -p /run/systemd/system/pi0rtd.service.d
    within tee /run/systemd/system/pi0rtd.service.d/limits.conf >/dev/null <<END
[Service]
CapabilityBoundingSet=CAP_SYS_NICE CAP_IPC_LOCK
AmbientCapabilities=CAP_SYS_NICE CAP_IPC_LOCK
END
    within systemctl daemon-reload
fi
realtime() {
    set_key realtime_priority 50
    set_key lock_memory true
    within systemctl restart pi0rtd
    local threads
    threads=$(within ps -L -o cls=,rtprio=,comm= -p "$(pid)")
    echo "$threads"
    grep -q 'FF *50 inference' <<<"$threads" && grep -q 'FF *51 pi0rtd' <<<"$threads" &&
        within awk '/^VmLck/ { print; exit !($2 > 0) }' "/proc/$(pid)/status"
}
check "SCHED_FIFO and locked memory, $by" realtime
set_key realtime_priority 0
set_key lock_memory false
within rm -f /run/systemd/system/pi0rtd.service.d/limits.conf
metrics() {
    local page
    within install -D -m 644 -t /run/systemd/system/pi0rtd.service.d /usr/share/doc/pi0rtd/examples/metrics.conf
    within install -d -m 2775 -g pi0rt /var/lib/prometheus/node-exporter
    set_key listen '"127.0.0.1:9464"'
    set_key file '"/var/lib/prometheus/node-exporter/pi0rt.prom"'
    set_key every_s 1
    within systemctl daemon-reload
    within systemctl restart pi0rtd
    as guest bash -c 'exec 3<>/dev/tcp/127.0.0.1/9464; printf "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n" >&3; cat <&3' | grep '^pi0rt_'
    sleep 2
    as guest grep -q '^pi0rt_' /var/lib/prometheus/node-exporter/pi0rt.prom
}
check "metrics, with metrics.conf: over loopback and in a file that all can read" metrics
within sed -i 's/^\(listen\|file\|every_s\) =/#&/' /etc/pi0rt/pi0rtd.toml
within rm -r /run/systemd/system/pi0rtd.service.d /var/lib/prometheus
within systemctl daemon-reload
within systemctl stop pi0rtd

step "Stopped"
# Long enough to be interrupted in the middle.
set_key steps 1000
check "it starts" within systemctl start pi0rtd
in_flight() {
    local client
    as arm /home/arm/across --one >"$dir/one.log" 2>&1 &
    client=$!
    until grep -q submitted "$dir/one.log"; do sleep 0.01; done
    sleep 0.05
    within systemctl stop pi0rtd
    cat "$dir/one.log"
    wait $client
}
check "stop answers the request in flight" in_flight
sed -n 's/^answered/      answered/p' "$dir/one.log"
check "it has stopped cleanly" test "$(property ActiveState) $(property Result)" = "inactive success"
set_key steps 10

step "Hung"
# Emulates a card that computes some chunks for each daemon, and then hangs.
hangs() {
    within mkdir -p /run/systemd/system/pi0rtd.service.d
    within tee /run/systemd/system/pi0rtd.service.d/hang.conf >/dev/null <<END
[Service]
ExecStart=
ExecStart=/usr/local/lib/pi0rtd-emulated
Environment=PI0RTD_DEVICE_NAME=ttnn PI0RTD_DEVICE_TTNN_TIMEOUT_MS=600000 PI0RT_EMULATION=hang_after=60 PI0RTD_POLICY_STEPS=1
$1
END
    within systemctl daemon-reload
    within systemctl restart pi0rtd
}
last_failure() { within grep "^reason=.*$1" /var/lib/pi0rt/last-failure; }

check "a daemon whose card will hang starts" hangs "Environment=PI0RTD_SUPERVISION_HANG_AFTER_S=10"
goes_on 1 "the daemon notices, ends and is started again; a client goes on" true
check "why is kept" last_failure "device lost"
printf '      %s\n' "$(last_failure "" || true)"

check "one that does not notice starts" hangs $'Environment=PI0RTD_SUPERVISION_HANG_AFTER_S=0\nWatchdogSec=10s'
goes_on 1 "systemd's watchdog ends it and starts it again; a client goes on" true
watchdog() { journal | grep 'Watchdog timeout'; }
check "it was the watchdog" watchdog
printf '      %s\n' "$(last_failure "" || true)"
within rm -r /run/systemd/system/pi0rtd.service.d
within systemctl daemon-reload
within systemctl restart pi0rtd
