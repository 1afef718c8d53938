# The container of run.sh, which sources this file: a Debian in $dir/root, booted by systemd-nspawn. Nothing here
# starts a systemd in the machine's own root file system, whose /tmp and /run it would clean up.
release=bookworm
packages=systemd,systemd-sysv,dbus,passwd,procps,gcc,libc6-dev,pkg-config

failures=0
step() { printf '\n== %s\n' "$*"; }
passed() { printf 'ok    %s\n' "$*"; }
failed() { printf 'FAIL  %s\n' "$*"; failures=$((failures + 1)); }
# check WHAT COMMAND...: checks that the command succeeds; its output is shown if not.
check() {
    local what=$1 said
    shift
    if said=$("$@" 2>&1); then passed "$what"; else failed "$what: $said"; fi
}
# eventually WHAT SECONDS COMMAND...: checks that the command succeeds within the time.
eventually() {
    local what=$1 end=$((SECONDS + $2)) said
    shift 2
    until said=$("$@" 2>&1); do
        if [ $SECONDS -ge $end ]; then failed "$what: $said"; return; fi
        sleep 0.1
    done
    passed "$what"
}

nspawn=''
leader=''
tidy() {
    if [ -n "$nspawn" ] && kill -0 "$nspawn" 2>/dev/null; then
        within systemctl poweroff >/dev/null 2>&1 || true
        for _ in $(seq 100); do kill -0 "$nspawn" 2>/dev/null || break; sleep 0.1; done
        kill "$nspawn" 2>/dev/null || true
        wait "$nspawn" 2>/dev/null || true
    fi
    [ -n "$keep" ] || rm -rf --one-file-system "$root"
    [ -n "$kept" ] || [ -n "$keep" ] || rm -rf --one-file-system "$dir"
}

kept=$dir
[ -n "$dir" ] || dir=$(mktemp -d /tmp/pi0rt-nspawn.XXXXXX)
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
root=$dir/root
trap tidy EXIT

# Installs a Debian system from the mirror of this machine's apt.
make_root() {
    if [ ! -e "$dir/base/done" ]; then
        rm -rf --one-file-system "$dir/base"
        local mirror
        mirror=$(apt-get indextargets --format '$(CODENAME) $(SITE)' "Identifier: Packages" | awk -v r=$release '$1 == r { print $2; exit }')
        [ -n "$mirror" ] || die "apt knows no mirror of Debian $release"
        debootstrap --variant=minbase --include=$packages $release "$dir/base" "$mirror" >"$dir/debootstrap.log" 2>&1 ||
            { tail -n 5 "$dir/debootstrap.log" >&2; die "debootstrap failed: $dir/debootstrap.log"; }
        # A fixed name, the same in every run.
        echo pi0rt-test >"$dir/base/etc/hostname"
        touch "$dir/base/done"
    fi
    rm -rf --one-file-system "$root"
    cp -a --reflink=auto "$dir/base" "$root"
    rm "$root/done"
}

# By default containers may not lock memory. Here they may, as on a machine; the daemon has no capability in either.
boot() {
    systemd-nspawn --quiet --boot --directory="$root" --machine=pi0rt-test --register=no --keep-unit --private-network \
        --capability=CAP_IPC_LOCK --rlimit=MEMLOCK=infinity --console=pipe </dev/null >"$dir/console.log" 2>&1 &
    nspawn=$!
    booted
}

# Waits until the container's systemd has started everything.
booted() {
    local before=$leader children end=$((SECONDS + 60))
    while [ $SECONDS -lt $end ]; do
        kill -0 "$nspawn" 2>/dev/null || die "systemd-nspawn ended: $(cat "$dir/console.log")"
        children=$(cat "/proc/$nspawn/task/$nspawn/children" 2>/dev/null || true)
        leader=${children%% *}
        if [ -n "$leader" ] && [ "$leader" != "$before" ]; then
            case $(within systemctl is-system-running 2>/dev/null || true) in
                running | degraded) return ;;
            esac
        fi
        sleep 0.2
    done
    die "the container has not booted: $(cat "$dir/console.log")"
}

# Reboots from the outside: systemd-nspawn's own reboot needs a /run that is a separate file system.
reboot() {
    within systemctl poweroff
    local end=$((SECONDS + 60))
    while kill -0 "$nspawn" 2>/dev/null; do
        [ $SECONDS -lt $end ] || die "the container does not go down: $(cat "$dir/console.log")"
        sleep 0.2
    done
    wait "$nspawn" || true
    boot
}

# Runs a command in the container, as root.
within() {
    nsenter --target "$leader" --mount --uts --ipc --net --pid --root --wdns=/ -- env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}
# Runs a command in the container, as one of its users.
as() {
    local user=$1
    shift
    within runuser -u "$user" -- "$@"
}
property() { within systemctl show --value --property "$1" "${2-pi0rtd.service}"; }
journal() { within journalctl --unit pi0rtd --output cat --no-pager "$@"; }
# Lists the container's files, except those that change by themselves.
files() {
    within find / -xdev \( -path /root -o -path /home -o -path /var/log -o -path /var/cache/apt -o -path /var/lib/apt -o \
        -path /var/cache/ldconfig -o -path /tmp -o -path /var/tmp \) -prune -o -printf '%y %p\n' | sort
    within find /run -xdev -name '*pi0rt*'
}
