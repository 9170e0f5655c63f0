#!/bin/sh
# Espalier's installer: puts one certificate generation in place on this host, or leaves everything as it was.
#
# It runs as root on somebody's production host. What it promises, at any instant and however it is ended:
#   * <directory>/<stack>/current is one symbolic link that always leads to a complete, matching pair;
#   * it moves to a new pair by one rename, after the pair was checked, and back when the server does not serve it;
#   * the server is reloaded gracefully, never restarted; a command that fails is never a handshake that fails;
#   * a pair that awaits confirmation is taken back when its deadline passes, never toward a worse one;
#   * no key material on a command line, in any output, or readable by others;
#   * the last line of output is one JSON object, whatever happened.
#
# Input: environment variables SSM_* (identifiers only) and the owner's host.conf. Needs coreutils, findutils, grep,
# util-linux' flock, awk, sed, openssl (1.1.1 or later) and the AWS CLI.
set -eu
umask 077
LC_ALL=C
PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}:/usr/sbin:/sbin"
export LC_ALL PATH

FETCH_SECONDS=120  # a failed fetch is retried until then: the quota is shared by the whole fleet
SERVED_SECONDS=15  # how long a graceful reload may take to show
SERVED_TIMES=4     # connections in a row that have to show it

reported=''
swapped=''
armed=''
old=''
new=''
step='starting'
serial=''
stack="${SSM_Stack:-}"
generation="${SSM_Generation:-0}"
fingerprint=''
parameter=''

# report CODE DETAIL: prints the last line and ends.
report() {
    reported=1
    # Nothing leads there yet, and it may hold a key.
    if [ -n "$new" ]; then rm -rf "$new" "$base/.floor.new"; fi
    detail=$(printf '%s' "$2" | tr -cd 'A-Za-z0-9 ._:/,;()=-' | cut -c 1-200)
    shown_stack=$(printf '%s' "$stack" | tr -cd 'a-z0-9-' | cut -c 1-24)
    shown_generation=$(printf '%s' "$generation" | tr -cd '0-9' | sed 's/^0*//' | cut -c 1-9)
    shown_fingerprint=$(printf '%s' "$fingerprint" | tr -cd '0-9a-f' | cut -c 1-64)
    printf '{"espalier":1,"code":"%s","stack":"%s","generation":%s,"fingerprint":"%s","serial":"%s","detail":"%s"}\n' \
        "$1" "$shown_stack" "${shown_generation:-0}" "$shown_fingerprint" "$serial" "$detail"
    case "$1" in
        installed | armed | confirmed | unchanged) exit 0 ;;
        *) exit 1 ;;
    esac
}

# Every way out leads through here: what was swapped and not proven is swapped back.
# shellcheck disable=SC2317  # reached by the trap
finish() {
    trap - EXIT
    [ -n "$reported" ] && return 0
    if [ -n "$swapped" ]; then
        revert "stopped while $step" || true
    fi
    why="stopped while $step"
    if is_full; then why="$why: no room on the disk"; fi
    (report refused "$why") || true
}
trap finish EXIT
trap 'exit 143' HUP INT TERM

# is_full: whether a pair under way finds no room. What failed can seldom say so: its words have no room, either.
is_full() {
    [ -n "$new" ] && [ -d "$new" ] && ! { printf '%16384s' '' >"$new/bundle"; } 2>/dev/null
}

# matches VALUE PATTERN: whether the whole of VALUE matches the extended regular expression.
matches() {
    [ "$(printf '%s' "$1" | grep -Ecx "$2")" = 1 ] && [ "$(printf '%s' "$1" | wc -l)" -eq 0 ]
}

check_tools() {
    step='looking for tools'
    for tool in awk sed grep find flock sync timeout openssl aws; do
        # Only an installation fetches anything.
        if [ "$tool" = aws ] && [ "$SSM_Action" != Install ]; then continue; fi
        command -v "$tool" >/dev/null 2>&1 || report refused "$tool is not installed on this host"
    done
    # The agent knows the region; the CLI may have to be told.
    if [ -z "${AWS_REGION:-}${AWS_DEFAULT_REGION:-}" ] && [ -n "${AWS_SSM_REGION_NAME:-}" ]; then
        AWS_DEFAULT_REGION=$AWS_SSM_REGION_NAME
        export AWS_DEFAULT_REGION
    fi
}

check_parameters() {
    step='reading the parameters'
    # An agent too old for ENV_VAR interpolation sets none of these.
    [ -n "${SSM_Action+set}" ] || report refused 'no SSM_Action in the environment: SSM Agent 3.3.2746.0 or later is needed'
    case "$SSM_Action" in
        # Expire is this host's own: no command may ask for it, and it does nothing that is not due.
        Install | Confirm | Expire) ;;
        Prepare) report refused "Action $SSM_Action is not supported by this version" ;;
        *) report refused 'Action is not Install, Confirm or Prepare' ;;
    esac
    matches "$stack" '[a-z][a-z0-9-]{1,22}[a-z0-9]' || report refused 'Stack is not a stack name'
    [ "$SSM_Action" != Expire ] || return 0
    matches "$generation" '[1-9][0-9]{0,8}' || report refused 'Generation is not a number from 1'
    matches "${SSM_StartSeconds:-}" '0|[1-9][0-9]{0,2}' || report refused 'StartSeconds is not a number from 0 to 999'
    matches "${SSM_WindowSeconds:-}" '0|[1-9][0-9]{0,3}' || report refused 'WindowSeconds is not a number from 0 to 9999'
    matches "${SSM_ConfirmSeconds:-}" '0|[1-9][0-9]{0,3}' || report refused 'ConfirmSeconds is not a number from 0 to 9999'
    matches "${SSM_MarginHours:-}" '0|[1-9][0-9]{0,3}' || report refused 'MarginHours is not a number from 0 to 9999'
    matches "${SSM_Fingerprint:-}" '([0-9a-f]{64}|m?i-[0-9a-f]{8,17}=[0-9a-f]{64}(,m?i-[0-9a-f]{8,17}=[0-9a-f]{64})*)' ||
        report refused 'Fingerprint is not 64 hexadecimal digits, or a list of nodes with theirs'
    matches "${SSM_ParameterName:-}" "/espalier-leaf/$stack/(shared|target)/$generation" ||
        report refused 'ParameterName is not this generation of this stack'
    case "$SSM_ParameterName:$SSM_Fingerprint" in
        */target/*:*=*) find_own ;;
        */shared/*:*=* | */target/*) report refused 'ParameterName and Fingerprint do not speak of the same leaves' ;;
        *) fingerprint=$SSM_Fingerprint parameter=$SSM_ParameterName ;;
    esac
}

# Each target has a leaf of its own, and one command is about many: which is this host's, by the name that its agent has.
find_own() {
    node="${AWS_SSM_INSTANCE_ID:-}"
    matches "$node" 'm?i-[0-9a-f]{8,17}' || report refused 'no AWS_SSM_INSTANCE_ID in the environment: whose leaf is meant?'
    own=",$SSM_Fingerprint,"
    case "$own" in
        *",$node="*) own=${own#*",$node="} ;;
        *) report refused "Fingerprint names no leaf of $node" ;;
    esac
    fingerprint=${own%%,*}
    parameter="/espalier-leaf/$stack/$node/$generation"
}

# is_ours FILE: whether only root, or whoever runs this, can change it. Root follows it, so nobody else may.
is_ours() {
    owner_id=$(stat -c %u "$1")
    [ "$owner_id" = 0 ] || [ "$owner_id" = "$(id -u)" ] || return 1
    [ -z "$(find "$1" -prune -perm /022)" ]
}

# The owner's word on this host. Read line by line and never executed: a value is data.
read_configuration() {
    step='reading host.conf'
    configuration="${ESPALIER_CONF:-/etc/espalier/host.conf}"
    [ -f "$configuration" ] || report notOptedIn "there is no $configuration on this host"
    is_ours "$configuration" || report refused "$configuration can be changed by others than root"
    stacks='' driver='' directory='' hooks='' check='' owner='root' group='root' control='' seen=' '
    units='/etc/systemd/system'
    while IFS= read -r line || [ -n "$line" ]; do
        case "$line" in
            '' | '#'*) continue ;;
            *=*) ;;
            *) report refused 'host.conf has a line that is not key=value' ;;
        esac
        key=${line%%=*}
        value=${line#*=}
        case "$seen" in *" $key "*) report refused "host.conf sets $key twice" ;; esac
        seen="$seen$key "
        matches "$value" '[A-Za-z0-9_./:,@-]+' || report refused "host.conf: $key is empty or has a character that is not allowed"
        case "$key" in
            stacks) stacks=$value ;;
            driver) driver=$value ;;
            directory) directory=$value ;;
            hooks) hooks=$value ;;
            check) check=$value ;;
            owner) owner=$value ;;
            group) group=$value ;;
            control) control=$value ;;
            units) units=$value ;;
            *) report refused "host.conf has an unknown key $key" ;;
        esac
    done <"$configuration"
    case ",$stacks," in *",$stack,"*) ;; *) report notOptedIn "host.conf does not list this stack" ;; esac
    for path in "${directory:-unset}" "${hooks:-/}" "${control:-/}" "/${units#none}"; do
        case "$path" in
            */../* | */..) report refused 'host.conf has a path with ..' ;;
            /*) ;;
            *) report refused 'host.conf: directory, hooks and control are absolute paths; directory must be set' ;;
        esac
    done
    case "$units" in
        none) ;;
        /*) if [ -d "$units" ] && ! is_ours "$units"; then report refused "$units can be changed by others than root"; fi ;;
        *) report refused 'host.conf: units is not none or an absolute path' ;;
    esac
    matches "$check" '[A-Za-z0-9.-]+:[0-9]{1,5}' || report refused 'host.conf: check is not host:port'
    case "$driver" in
        httpd | nginx | haproxy) ;;
        hook)
            for hook in test reload; do
                if [ ! -f "$hooks/$hook" ] || [ ! -x "$hooks/$hook" ]; then
                    report refused "host.conf: $hooks/$hook is not an executable file"
                fi
                is_ours "$hooks/$hook" || report refused "$hooks/$hook can be changed by others than root"
            done
            is_ours "$hooks" || report refused "$hooks can be changed by others than root"
            ;;
        *) report refused 'host.conf: driver is not httpd, nginx, haproxy or hook' ;;
    esac
}

# sha256 fingerprint of the first certificate on standard input, lower-case; empty if there is none.
fingerprint_of() {
    openssl x509 -noout -fingerprint -sha256 2>/dev/null | sed 's/.*=//; s/://g' | tr 'A-F' 'a-f'
}

# public_of KIND FILE: a digest of the public key in a key or a certificate.
public_of() {
    case "$1" in
        key) openssl pkey -in "$2" -passin pass: -pubout -outform DER 2>/dev/null | openssl dgst -sha256 ;;
        leaf) openssl x509 -in "$2" -noout -pubkey 2>/dev/null | openssl pkey -pubin -pubout -outform DER 2>/dev/null | openssl dgst -sha256 ;;
    esac
}

# is_good DIRECTORY: whether it holds a complete, matching, currently valid pair.
is_good() {
    for file in key.pem leaf.pem chain.pem fullchain.pem generation; do
        [ -s "$1/$file" ] || return 1
    done
    if [ "$driver" = haproxy ]; then
        [ "$(cat "$1/key.pem" "$1/fullchain.pem" | cksum)" = "$(cksum <"$1/haproxy.pem")" ] || return 1
    fi 2>/dev/null
    # An empty pass phrase: a key that wants one is no use to a server that starts unattended.
    openssl pkey -in "$1/key.pem" -passin pass: -noout 2>/dev/null || return 1
    [ "$(public_of key "$1/key.pem")" = "$(public_of leaf "$1/leaf.pem")" ] || return 1
    # A leaf that is its own issuer would prove itself.
    [ "$(fingerprint_of <"$1/leaf.pem")" != "$(fingerprint_of <"$1/chain.pem")" ] || return 1
    # Dates, issuer's signature and purpose; the root is the verifiers' business, the issuer is as far as we see.
    openssl verify -partial_chain -purpose sslserver -trusted "$1/chain.pem" "$1/leaf.pem" >/dev/null 2>&1
}

# name_of DIRECTORY: the first DNS name of its leaf.
name_of() {
    openssl x509 -in "$1/leaf.pem" -noout -ext subjectAltName 2>/dev/null |
        tr ',' '\n' | sed -n 's/^ *DNS:\([A-Za-z0-9.-]*\)$/\1/p' | head -n 1
}

# served NAME: the fingerprint of what the server shows for a name.
served() {
    timeout 5 openssl s_client -connect "$check" -servername "$1" </dev/null 2>/dev/null 9>&- | fingerprint_of || true
}

# serves NAME FINGERPRINT: whether the server shows it before long. New connections only; old ones keep what they have.
# Several in a row: after a graceful reload a worker of before may still take some of them.
serves() {
    until_time=$(($(date +%s) + SERVED_SECONDS))
    shown=0
    while [ "$shown" -lt "$SERVED_TIMES" ]; do
        if [ "$(served "$1")" = "$2" ]; then
            shown=$((shown + 1))
            continue
        fi
        shown=0
        [ "$(date +%s)" -lt "$until_time" ] || return 1
        sleep 0.3 9>&-
    done
}

# The server's own word on its configuration. Children never inherit the lock: a server started here would keep it.
test_server() {
    case "$driver" in
        hook) ESPALIER_STACK="$stack" ESPALIER_DIRECTORY="$base/current" "$hooks/test" ;;
        httpd)
            if [ -n "$control" ]; then
                "$control" -t
            elif command -v httpd; then
                httpd -t
            else
                apache2ctl configtest
            fi
            ;;
        nginx) "${control:-nginx}" -t ;;
        haproxy)
            if [ -n "$control" ]; then
                "$control" -c
            elif [ -d /etc/haproxy/conf.d ]; then
                # Amazon Linux's unit reads both.
                haproxy -c -q -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf.d
            else
                haproxy -c -q -f /etc/haproxy/haproxy.cfg
            fi
            ;;
    esac >/dev/null 2>&1 9>&-
}

# Graceful, and a start only where nothing runs yet.
reload_server() {
    case "$driver:$control" in
        hook:*) ESPALIER_STACK="$stack" ESPALIER_DIRECTORY="$base/current" "$hooks/reload" ;;
        httpd:?*) "$control" -k graceful ;;
        nginx:?*) "$control" -s reload ;;
        haproxy:?*) "$control" reload ;;
        *)
            unit=$driver
            # Debian's name for it.
            if [ "$driver" = httpd ] && ! command -v httpd; then unit=apache2; fi
            if systemctl is-active --quiet "$unit"; then systemctl reload "$unit"; else systemctl start "$unit"; fi
            ;;
    esac >/dev/null 2>&1 9>&-
}

# point LINK TARGET: one rename; whoever looks sees the old or the new, never neither.
point() {
    rm -f "$base/.$1.new"
    ln -s "$2" "$base/.$1.new"
    mv -T "$base/.$1.new" "$base/$1"
    sync "$base"
}

floor_of_host() {
    if [ -f "$base/floor" ] && matches "$(cat "$base/floor")" '[1-9][0-9]{0,8}'; then cat "$base/floor"; else echo 0; fi
}

# Before the swap where there is one: what is proven must not lack room for saying so.
prepare_floor() {
    printf '%s\n' "$generation" >"$base/.floor.new"
    sync "$base/.floor.new"
}

raise_floor() {
    [ "$generation" -gt "$(floor_of_host)" ] || return 0
    [ -s "$base/.floor.new" ] || prepare_floor
    mv -T "$base/.floor.new" "$base/floor"
    sync "$base"
}

# Nothing awaits confirmation any more.
disarm() {
    rm -f "$base/deadline" "$base/unconfirmed"
    sync "$base"
}

# is_no_worse PLACE SECONDS: whether going back there is no step down: a pair that was confirmed on this host, that is
# whole, and that lasts for longer than this.
is_no_worse() {
    if [ -z "$1" ] || [ ! -d "$base/$1" ] || ! is_good "$base/$1"; then return 1; fi
    [ "$(cat "$base/$1/generation")" -le "$(floor_of_host)" ] || return 1
    openssl x509 -in "$base/$1/leaf.pem" -noout -checkend "$2" >/dev/null 2>&1
}

# arm PLACE: if asked for, the host goes back there by itself unless it is told in time that the new pair was seen. This
# is written down before anything is swapped, so that a run that ends half-way is taken back as well.
arm() {
    armed=''
    if [ "$SSM_ConfirmSeconds" -eq 0 ] || [ "$generation" -le "$(floor_of_host)" ]; then return 0; fi
    is_no_worse "$1" $((SSM_ConfirmSeconds + SSM_MarginHours * 3600)) || return 0
    step='arming the deadline'
    keep_script
    rm -f "$base/unconfirmed"
    deadline=$(($(date +%s) + SSM_ConfirmSeconds))
    printf '%s %s %s\n' "$deadline" "$SSM_ConfirmSeconds" "$SSM_MarginHours" >"$base/.deadline.new"
    sync "$base/.deadline.new"
    mv -T "$base/.deadline.new" "$base/deadline"
    sync "$base"
    wake
    armed=1
}

# What runs at the deadline: the agent keeps no copy of this script. From its first comment on: what an agent puts before
# that is about this run.
keep_script() {
    if [ ! -f "$0" ] || ! grep -q '^# Espalier.s installer: ' "$0"; then
        report refused 'no deadline can be kept: this script was not run from a file'
    fi
    sed -n '/^# Espalier.s installer: /,$p' "$0" >"$base/.installer.new"
    chmod 0700 "$base/.installer.new"
    sync "$base/.installer.new"
    mv -T "$base/.installer.new" "$base/installer"
}

# Who looks at the deadline: a timer of systemd's, and a unit at boot; where there is no systemd, a process that waits.
wake() {
    if [ "$units" != none ] && matches "$configuration" '/[A-Za-z0-9_./:@-]+'; then
        keep_unit 2>/dev/null || true
        if systemd-run --quiet --collect --no-ask-password --unit="espalier-deadline-$stack-$deadline" \
            --on-active="$SSM_ConfirmSeconds" --timer-property=AccuracySec=1s --property=Restart=on-abnormal \
            --setenv=SSM_Action=Expire --setenv=SSM_Stack="$stack" --setenv=ESPALIER_CONF="$configuration" \
            /bin/sh "$base/installer" >/dev/null 2>&1 9>&-; then
            return 0
        fi
    fi
    SSM_Action=Expire ESPALIER_CONF="$configuration" \
        setsid sh "$base/installer" </dev/null >/dev/null 2>&1 9>&- &
}

# At boot, as long as there is a deadline. The unit stays: without one it does nothing.
keep_unit() {
    [ -d "$units" ] || return 0
    unit="espalier-deadline-$stack.service"
    printf '%s\n' '[Unit]' "Description=Espalier: the deadline of an unconfirmed certificate of $stack" \
        "ConditionPathExists=$base/deadline" \
        'After=network.target httpd.service apache2.service nginx.service haproxy.service' '[Service]' \
        "Environment=SSM_Action=Expire SSM_Stack=$stack ESPALIER_CONF=$configuration" \
        "ExecStart=/bin/sh $base/installer" >"$units/.$unit.new" &&
        chmod 0644 "$units/.$unit.new" &&
        mv -T "$units/.$unit.new" "$units/$unit" &&
        mkdir -p "$units/multi-user.target.wants" &&
        ln -sfn "../$unit" "$units/multi-user.target.wants/$unit"
}

# read_deadline: when it is, how long it was from its beginning, and what a pair to go back to has to outlast.
read_deadline() {
    [ -f "$base/deadline" ] || return 1
    read -r deadline patience margin <"$base/deadline" || return 1
    matches "$deadline $patience $margin" '[0-9]{1,12} [0-9]{1,5} [0-9]{1,5}'
}

# The host's own action: waits for the deadline, and takes back what nobody has confirmed until then.
expire() {
    step='waiting for the deadline'
    read_deadline || report unchanged 'there is no deadline'
    pause=$((deadline - $(date +%s)))
    # A clock that was set back does not make it wait for ever.
    [ "$pause" -le "$patience" ] || pause=$patience
    if [ "$pause" -gt 0 ]; then sleep "$pause"; fi
    awaited=$deadline
    lock -w 900
    step='taking back what was not confirmed'
    read_deadline || report unchanged 'there is no deadline any more'
    [ "$deadline" = "$awaited" ] || report unchanged 'another deadline was set meanwhile'
    generation=$(cat "$base/current/generation" 2>/dev/null || echo 0)
    if [ "$generation" -gt "$(floor_of_host)" ]; then
        before=$(readlink "$base/previous" || true)
        fingerprint=$(fingerprint_of <"$base/current/leaf.pem")
        if ! is_no_worse "$before" $((margin * 3600)); then
            disarm
            report unchanged 'not confirmed, and kept: the generation before is none to go back to'
        fi
        printf '%s %s\n' "$generation" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$base/.unconfirmed.new"
        sync "$base/.unconfirmed.new"
        mv -T "$base/.unconfirmed.new" "$base/unconfirmed"
        point current "$before"
    elif [ ! -f "$base/unconfirmed" ]; then
        disarm
        report unchanged 'nothing awaits confirmation'
    fi
    # From here on also after a run that was killed half-way.
    if test_server; then reload_server || true; fi
    prune
    rm -f "$base/deadline"
    sync "$base"
    if serves "$(name_of "$base/current")" "$(fingerprint_of <"$base/current/leaf.pem")"; then
        report unconfirmed 'the generation before is served again'
    fi
    report unconfirmed 'the generation before is in place but the server does not show it'
}

# The control plane has seen this generation on the wire: it stays.
confirm() {
    step='confirming'
    [ "$generation" -ge "$(floor_of_host)" ] || report belowFloor "generation $(floor_of_host) was confirmed on this host"
    if is_in_place && is_good "$base/current"; then
        serial=$(serial_of "$base/current/leaf.pem")
        raise_floor
        disarm
        prune
        report confirmed 'it stays'
    fi
    if [ -f "$base/unconfirmed" ]; then
        read -r gone at <"$base/unconfirmed" || true
        [ "$gone" != "$generation" ] || report unconfirmed "nobody confirmed it in time: taken back at $at"
    fi
    report refused 'this generation is not in place'
}

# revert CAUSE: the pair before this one is served again; without one, nothing is (the server never ran).
revert() {
    swapped=''
    failed=$(readlink "$base/current" || true)
    case "$1" in
        configTestFailed | reloadFailed | servedOther) code=$1 ;;
        *) code=refused ;;
    esac
    if [ -n "$old" ] && [ "$failed" = "$old" ]; then report "$code" "$1: the confirmed generation was asserted again in vain"; fi
    if [ -z "$old" ] || [ ! -d "$base/$old" ]; then
        rm -f "$base/current"
        sync "$base"
        if [ -n "$failed" ]; then rm -rf "${base:?}/$failed"; fi
        report "$code" "$1: there was no certificate before"
    fi
    point current "$old"
    # A server whose configuration is broken for another reason must not be told to read it.
    if test_server; then reload_server || true; fi
    rm -rf "${base:?}/${failed:?}"
    rm -f "$base/deadline"
    if serves "$(name_of "$base/$old")" "$(fingerprint_of <"$base/$old/leaf.pem")"; then
        report reverted "$1: the generation before is served again"
    fi
    report reverted "$1: the generation before is in place but the server does not show it"
}

# prove: the server takes what `current` leads to, or it is taken back.
prove() {
    step='testing the configuration'
    test_server || revert configTestFailed
    step='reloading'
    reload_server || revert reloadFailed
    step='looking at what is served'
    serves "$name" "$fingerprint" || revert servedOther
    swapped=''
    [ -z "$armed" ] || return 0
    raise_floor
    disarm
}

# done_as DETAIL: the last line of an installation that succeeded.
done_as() {
    if [ -n "$armed" ]; then report armed "$1, until confirmed"; fi
    report installed "$1"
}

# Whether `current` leads to the generation that this run is about.
is_in_place() {
    [ -d "$base/current" ] && [ "$(cat "$base/current/generation" 2>/dev/null)" = "$generation" ] &&
        [ "$(fingerprint_of <"$base/current/leaf.pem")" = "$fingerprint" ]
}

# The same generation again: nothing is done if disk and wire agree; if only the wire differs, it is asserted again.
assert_current() {
    is_in_place && is_good "$base/current" || return 0
    name=$(name_of "$base/current")
    serial=$(serial_of "$base/current/leaf.pem")
    if [ "$(served "$name")" = "$fingerprint" ]; then
        arm "$(readlink "$base/previous" || true)"
        if [ -n "$armed" ]; then
            prune
            report armed 'on disk and on the wire, until confirmed'
        fi
        raise_floor
        disarm
        # A run killed while it tidied up has left an older key.
        prune
        report unchanged 'on disk and on the wire'
    fi
    # Confirmed before: nothing to go back to. Else this is what an earlier run left unproven.
    if [ "$(floor_of_host)" -lt "$generation" ]; then
        old=$(readlink "$base/previous" || true)
    else
        old=$(readlink "$base/current")
    fi
    arm "$old"
    swapped=1
    prove
    prune
    done_as 'asserted again'
}

serial_of() {
    openssl x509 -in "$1" -noout -serial 2>/dev/null | sed 's/.*=//; s/^0*//' | tr 'A-F' 'a-f'
}

# Neither all at once nor by chance: this command's turn, and in it the second that the host's name comes to.
spread() {
    step='waiting its turn'
    wait=$SSM_StartSeconds
    if [ "$SSM_WindowSeconds" -gt 0 ]; then
        who="${AWS_SSM_INSTANCE_ID:-$(uname -n)}"
        wait=$((wait + $(printf '%s' "$who" | cksum | cut -d ' ' -f 1) % SSM_WindowSeconds))
    fi
    [ "$wait" -eq 0 ] || sleep "$wait" 9>&-
}

fetch() {
    step='fetching the bundle'
    until_time=$(($(date +%s) + FETCH_SECONDS))
    pause=1
    until timeout 45 aws ssm get-parameter --with-decryption --name "$parameter" --query Parameter.Value \
        --output text --cli-connect-timeout 5 --cli-read-timeout 20 >"$new/bundle" 2>"$new/answer" 9>&-; do
        if is_full; then report fetchFailed "$parameter could not be kept: no room on the disk"; fi
        if [ "$(($(date +%s) + pause))" -ge "$until_time" ]; then
            reason=$(sed -n 's/.*An error occurred (\([A-Za-z]*\)).*/\1/p' "$new/answer" | head -n 1)
            report fetchFailed "$parameter could not be read: ${reason:-no answer}"
        fi
        sleep "$pause" 9>&-
        [ "$pause" -ge 16 ] || pause=$((pause * 2))
    done
}

# Exactly one key, then the leaf, then its issuers.
split() {
    step='reading the bundle'
    awk -v new="$new" '
        /^-----BEGIN ([A-Z]+ )?PRIVATE KEY-----$/ { keys++; out = new "/key.pem" }
        /^-----BEGIN CERTIFICATE-----$/ { leaves++; out = new (leaves == 1 ? "/leaf.pem" : "/chain.pem") }
        out != "" { print > out }
        /^-----END / { out = "" }
        END { exit !(keys == 1 && leaves >= 2) }
    ' "$new/bundle" || {
        if is_full; then report refused "stopped while $step: no room on the disk"; fi
        report invalidBundle 'the bundle is not one key, a leaf and its issuers'
    }
    rm -f "$new/bundle" "$new/answer"
    cat "$new/leaf.pem" "$new/chain.pem" >"$new/fullchain.pem"
    # HAProxy reads the pair from one file.
    if [ "$driver" = haproxy ]; then cat "$new/key.pem" "$new/fullchain.pem" >"$new/haproxy.pem"; fi
    printf '%s\n' "$generation" >"$new/generation"
}

# pair_conf PLACE: what a server that opens certificate and key one after the other is to include. It opens this file once, and
# both are named where they lie for good: no rename of ours comes between them.
pair_conf() {
    case "$driver" in
        httpd) printf 'SSLCertificateFile "%s"\nSSLCertificateKeyFile "%s"\n' "$base/$1/fullchain.pem" "$base/$1/key.pem" ;;
        nginx) printf 'ssl_certificate "%s";\nssl_certificate_key "%s";\n' "$base/$1/fullchain.pem" "$base/$1/key.pem" ;;
        haproxy | hook) ;;
    esac
}

# A pair that a former version installed, or that was installed for another server, lacks the file that names it.
name_pairs() {
    step='naming the pairs'
    for link in current previous; do
        place=$(readlink "$base/$link") || continue
        [ -d "$base/$place" ] || continue
        if [ "$(pair_conf "$place")" = "$(cat "$base/$place/pair.conf" 2>/dev/null)" ]; then continue; fi
        pair_conf "$place" >"$base/.pair.conf.new"
        chmod 0640 "$base/.pair.conf.new"
        if [ "$owner:$group" != "$(id -un):$(id -gn)" ]; then chown -h "$owner:$group" "$base/.pair.conf.new"; fi
        if selinuxenabled 2>/dev/null; then chcon --reference="$base/$place/key.pem" "$base/.pair.conf.new" 2>/dev/null || true; fi
        sync "$base/.pair.conf.new"
        mv -T "$base/.pair.conf.new" "$base/$place/pair.conf"
        sync "$base/$place"
    done
}

check_bundle() {
    step='checking the bundle'
    [ "$(fingerprint_of <"$new/leaf.pem")" = "$fingerprint" ] || report invalidBundle 'the leaf is not the one announced'
    is_good "$new" || report invalidBundle 'key, leaf, issuer or dates do not fit together'
    name=$(name_of "$new")
    [ -n "$name" ] || report invalidBundle 'the leaf names no host'
    serial=$(serial_of "$new/leaf.pem")
}

# Onto the disk for good, under a name that nothing leads to yet.
keep() {
    step='writing the generation'
    prepare_floor
    place="generations/$generation"
    attempt=0
    while [ -e "$base/$place" ]; do
        # A former attempt's files, perhaps led to by `current`: left alone until nothing leads to them.
        attempt=$((attempt + 1))
        place="generations/$generation.$attempt"
    done
    named=$(pair_conf "$place")
    if [ -n "$named" ]; then printf '%s\n' "$named" >"$new/pair.conf"; fi
    chmod 0640 "$new"/*
    if [ "$owner:$group" != "$(id -un):$(id -gn)" ]; then chown -h "$owner:$group" "$new"/*; fi
    # Directories stay ours: whoever owns one can put a link where root is about to write.
    chmod 0751 "$new"
    sync "$new"/* "$new"
    mv -T "$new" "$base/$place"
    sync "$base/generations"
    label
}

# SELinux: the labels of the pair before, whoever chose them; the policy's own where there is none.
label() {
    if ! selinuxenabled 2>/dev/null; then return 0; fi
    if [ ! -d "$base/current" ]; then
        restorecon -R "$base" >/dev/null 2>&1 || true
        return 0
    fi
    chcon --reference="$base/current/." "$base/$place" 2>/dev/null || true
    for file in "$base/$place"/*; do
        former="$base/current/${file##*/}"
        # A file the pair before did not have.
        [ -e "$former" ] || former="$base/current/key.pem"
        chcon --reference="$former" "$file" 2>/dev/null || true
    done
}

swap() {
    step='swapping'
    old=$(readlink "$base/current" || true)
    current_generation=$(cat "$base/current/generation" 2>/dev/null || echo 0)
    if [ "$current_generation" -gt "$(floor_of_host)" ] && [ -d "$base/previous" ]; then
        # What a killed run left there was never proven: going back means to what was.
        old=$(readlink "$base/previous")
    elif [ -n "$old" ]; then
        point previous "$old"
    fi
    arm "$old"
    step='swapping'
    swapped=1
    point current "$place"
}

# Two generations stay: going back needs no network.
prune() {
    step='tidying up'
    for entry in "$base"/generations/*; do
        case "generations/${entry##*/}" in
            "$(readlink "$base/current")" | "$(readlink "$base/previous" || true)") ;;
            *) rm -rf "$entry" ;;
        esac
    done
}

# lock HOW: one run at a time on this host.
lock() {
    is_ours "$base" || report refused "$base can be changed by others than root"
    exec 9>"$base/lock"
    flock "$@" 9 || report busy 'another installation is running on this host'
}

make_directories() {
    step='making the directories'
    if [ ! -d "$directory" ]; then
        mkdir -p "$directory"
        chmod 0751 "$directory"
    fi
    is_ours "$directory" || report refused "$directory can be changed by others than root"
    mkdir -p "$base/generations"
    is_ours "$base" || report refused "$base can be changed by others than root"
    chmod 0751 "$base" "$base/generations"
}

# What was installed later than this stands, confirmed or not.
check_floor() {
    [ "$generation" -ge "$(floor_of_host)" ] || report belowFloor "generation $(floor_of_host) was confirmed on this host"
    [ -f "$base/deadline" ] || return 0
    pending=$(cat "$base/current/generation" 2>/dev/null || echo 0)
    [ "$generation" -ge "$pending" ] || report belowFloor "generation $pending awaits confirmation on this host"
}

check_parameters
check_tools
read_configuration
base="$directory/$stack"
if [ "$SSM_Action" != Install ]; then
    [ -d "$base" ] || report refused 'nothing was ever installed here'
    if [ "$SSM_Action" = Expire ]; then expire; fi
    # It may be about to be taken back at this moment.
    lock -w 60
    confirm
fi
make_directories
lock -n
# What a killed run left behind holds a key.
rm -rf "$base"/.new-* "$base"/.current.new "$base"/.previous.new "$base"/.floor.new "$base"/.deadline.new \
    "$base"/.unconfirmed.new "$base"/.installer.new "$base"/.pair.conf.new
name_pairs
check_floor
assert_current
spread
new="$base/.new-$generation"
mkdir "$new"
fetch
split
check_bundle
keep
swap
prove
prune
done_as 'served'
