#!/bin/sh
# Espalier's installer: puts one certificate generation in place on this host, or leaves everything as it was.
#
# It runs as root on somebody's production host. What it promises, at any instant and however it is ended:
#   * <directory>/<stack>/current is one symbolic link that always leads to a complete, matching pair;
#   * it moves to a new pair by one rename, after the pair was checked, and back when the server does not serve it;
#   * the server is reloaded gracefully, never restarted; a command that fails is never a handshake that fails;
#   * a pair that awaits confirmation is taken back when its deadline passes, never toward a worse one;
#   * no key material on a command line, in any output, or readable by others; a key that is made here never leaves;
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
base=''
said=''
refusal=''
answered=1
step='starting'
serial=''
stack="${SSM_Stack:-}"
generation="${SSM_Generation:-0}"
fingerprint=''
parameter=''
request=''

# report CODE DETAIL: prints the last line and ends.
report() {
    reported=1
    # Nothing leads there yet, and it may hold a key.
    if [ -n "$new" ]; then rm -rf "$new" "$base/.floor.new" 2>/dev/null || true; fi
    detail=$(printf '%s' "$2" | tr -cd 'A-Za-z0-9 ._:/,;()=-' | cut -c 1-300)
    shown_stack=$(printf '%s' "$stack" | tr -cd 'a-z0-9-' | cut -c 1-24)
    shown_generation=$(printf '%s' "$generation" | tr -cd '0-9' | sed 's/^0*//' | cut -c 1-9)
    shown_fingerprint=$(printf '%s' "$fingerprint" | tr -cd '0-9a-f' | cut -c 1-64)
    shown_request=''
    if [ "$1" = prepared ]; then shown_request=",\"request\":\"$(printf '%s' "$request" | tr -cd 'A-Za-z0-9+/=')\""; fi
    printf '{"espalier":1,"code":"%s","stack":"%s","generation":%s,"fingerprint":"%s","serial":"%s","detail":"%s"%s}\n' \
        "$1" "$shown_stack" "${shown_generation:-0}" "$shown_fingerprint" "$serial" "$detail" "$shown_request"
    case "$1" in
        installed | armed | confirmed | unchanged | prepared) exit 0 ;;
        *) exit 1 ;;
    esac
}

# lacking TOOL: the same where what the last line is made with may be what is not there.
lacking() {
    reported=1
    case "$stack" in *[!a-z0-9-]*) stack='' ;; esac
    case "$generation" in '' | 0* | *[!0-9]* | ??????????*) generation=0 ;; esac
    printf '{"espalier":1,"code":"refused","stack":"%s","generation":%s,"fingerprint":"","serial":"","detail":"%s"}\n' \
        "$stack" "$generation" "$1 is not installed on this host"
    exit 1
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
    if is_full; then
        why="$why: no room on the disk"
    elif is_read_only; then
        why="$why: $base is on a read-only file system; mount it read-write again"
    fi
    (report refused "$why") || true
}
trap finish EXIT
trap 'exit 143' HUP INT TERM

# is_full: whether a pair or a key under way finds no room. What failed can seldom say so: its words have no room, either.
is_full() {
    [ -n "$new" ] && [ -d "$new" ] && ! { printf '%16384s' '' >"$new/bundle"; } 2>/dev/null
}

# is_read_only: not even root writes there, also where it could until a moment ago.
# shellcheck disable=SC2317  # reached by the trap
is_read_only() {
    for place in "$base" "${base%/*}"; do
        if [ -n "$place" ] && [ -d "$place" ]; then
            if [ -w "$place" ]; then return 1; else return 0; fi
        fi
    done
    return 1
}

# matches VALUE PATTERN: whether the whole of VALUE matches the extended regular expression.
matches() {
    [ "$(printf '%s' "$1" | grep -Ecx "$2")" = 1 ] && [ "$(printf '%s' "$1" | wc -l)" -eq 0 ]
}

check_tools() {
    step='looking for tools'
    for tool in awk cat chmod chown cksum cut date find flock grep head id ln mkdir mv openssl readlink rm sed setsid sleep \
        stat sync tail timeout tr uname wc aws; do
        # Only an installation fetches anything.
        if [ "$tool" = aws ] && [ "${SSM_Action:-}" != Install ]; then continue; fi
        command -v "$tool" >/dev/null 2>&1 || lacking "$tool"
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
        Install | Confirm | Prepare | Expire) ;;
        *) report refused 'Action is not Install, Confirm or Prepare' ;;
    esac
    matches "$stack" '[a-z][a-z0-9-]{1,22}[a-z0-9]' || report refused 'Stack is not a stack name'
    [ "$SSM_Action" != Expire ] || return 0
    matches "$generation" '[1-9][0-9]{0,8}' || report refused 'Generation is not a number from 1'
    # Commands from before there were these two know nothing of them.
    if [ "$SSM_Action" = Prepare ] || [ -n "${SSM_KeyType:-}" ]; then
        matches "${SSM_KeyType:-}" 'EC_prime256v1|EC_secp384r1|RSA_2048|RSA_3072|RSA_4096|Ed25519' ||
            report refused 'KeyType is not a kind of key'
    fi
    if [ "$SSM_Action" = Prepare ] || [ -n "${SSM_Nonce:-}" ]; then
        matches "${SSM_Nonce:-}" '[0-9a-f]{64}' || report refused 'Nonce is not 64 hexadecimal digits'
    fi
    if [ "$SSM_Action" = Prepare ]; then
        check_node
        return 0
    fi
    matches "${SSM_StartSeconds:-}" '0|[1-9][0-9]{0,2}' || report refused 'StartSeconds is not a number from 0 to 999'
    matches "${SSM_WindowSeconds:-}" '0|[1-9][0-9]{0,3}' || report refused 'WindowSeconds is not a number from 0 to 9999'
    matches "${SSM_ConfirmSeconds:-}" '0|[1-9][0-9]{0,3}' || report refused 'ConfirmSeconds is not a number from 0 to 9999'
    matches "${SSM_MarginHours:-}" '0|[1-9][0-9]{0,3}' || report refused 'MarginHours is not a number from 0 to 9999'
    matches "${SSM_Fingerprint:-}" '([0-9a-f]{64}|m?i-[0-9a-f]{8,17}=[0-9a-f]{64}(,m?i-[0-9a-f]{8,17}=[0-9a-f]{64})*)' ||
        report refused 'Fingerprint is not 64 hexadecimal digits, or a list of nodes with theirs'
    matches "${SSM_ParameterName:-}" "/espalier-leaf/$stack/(shared|target)/$generation" ||
        report refused 'ParameterName is not this generation of this stack'
    # A stack may be called like either.
    case "${SSM_ParameterName#"/espalier-leaf/$stack/"}:$SSM_Fingerprint" in
        target/*:*=*) find_own ;;
        shared/*:*=* | target/*) report refused 'ParameterName and Fingerprint do not speak of the same leaves' ;;
        *) fingerprint=$SSM_Fingerprint parameter=$SSM_ParameterName ;;
    esac
}

# One command is about many hosts: which this is, by the name that its agent has.
check_node() {
    node="${AWS_SSM_INSTANCE_ID:-}"
    matches "$node" 'm?i-[0-9a-f]{8,17}' || report refused 'no AWS_SSM_INSTANCE_ID in the environment: whose leaf is meant?'
}

# Each target has a leaf of its own, and one command is about many: which is this host's.
find_own() {
    check_node
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

# What the driver calls is there, or nothing is changed.
check_server_tools() {
    if [ "$driver" = hook ]; then return 0; fi
    if [ -n "$control" ]; then
        if [ ! -f "$control" ] || [ ! -x "$control" ]; then report refused "host.conf: $control is not an executable file"; fi
        return 0
    fi
    step='looking for the server'
    case "$driver" in
        httpd) wanted='httpd or apache2ctl' ;;
        *) wanted=$driver ;;
    esac
    found=''
    for tool in ${wanted%% or *} ${wanted##* or }; do
        if command -v "$tool" >/dev/null; then found=1; fi
    done
    [ -n "$found" ] || report refused "$wanted is not installed on this host"
    command -v systemctl >/dev/null || report refused 'systemctl is not installed on this host, and host.conf names no control'
}

# alone COMMAND: openssl that looks at a certificate, without the trust store of the system: nothing is asked of that here, and it would be read
# first, all of it, which takes four times as long as the rest.
alone() { SSL_CERT_FILE=/dev/null "$@"; }

# sha256 fingerprint of the first certificate on standard input, lower-case; empty if there is none.
fingerprint_of() {
    alone openssl x509 -noout -fingerprint -sha256 2>/dev/null | sed 's/.*=//; s/://g' | tr 'A-F' 'a-f'
}

# public_of KIND FILE: a digest of the public key in a key or a certificate.
public_of() {
    case "$1" in
        key) openssl pkey -in "$2" -passin pass: -pubout -outform DER 2>/dev/null | openssl dgst -sha256 ;;
        leaf) alone openssl x509 -in "$2" -noout -pubkey 2>/dev/null | openssl pkey -pubin -pubout -outform DER 2>/dev/null | openssl dgst -sha256 ;;
    esac
}

# kind_of FILE: what KeyType calls the private key in it; empty if there is none that is whole.
kind_of() {
    openssl pkey -in "$1" -passin pass: -pubout 2>/dev/null | openssl pkey -pubin -noout -text_pub 2>/dev/null |
        sed -n 's/^ASN1 OID: /EC_/p; s/^ED25519 Public-Key:.*/Ed25519/p; s/^\(RSA \)\{0,1\}Public-Key: (\([0-9]*\) bit).*/RSA_\2/p' |
        tail -n 1
}

# is_good DIRECTORY: whether it holds a complete, matching, currently valid pair.
is_good() {
    is_whole "$1" && is_in_time "$1"
}

# is_whole DIRECTORY: whether it holds a complete, matching pair. When it is, only a clock can say.
is_whole() {
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
    # Issuer's signature and purpose; the root is the verifiers' business, the issuer is as far as we see.
    openssl verify -partial_chain -no_check_time -purpose sslserver -trusted "$1/chain.pem" "$1/leaf.pem" >/dev/null 2>&1
}

# instant start|end FILE: when the leaf in it begins or ends, in seconds since 1970.
instant() {
    at=$(alone openssl x509 -in "$2" -noout "-${1}date" 2>/dev/null) && date -d "${at#*=}" +%s 2>/dev/null
}

# is_in_time DIRECTORY: whether its leaf, and the leaf's issuer, have begun and not ended, by this host's clock.
is_in_time() {
    now=$(date +%s)
    for file in leaf.pem chain.pem; do
        begins=$(instant start "$1/$file") && ends=$(instant end "$1/$file") || return 1
        [ "$begins" -le "$now" ] && [ "$now" -lt "$ends" ] || return 1
    done
}

# by_now DIRECTORY: this host's clock, or when the leaf there began if that is later: it was made by a clock that was right.
by_now() {
    now=$(date +%s)
    begins=$(instant start "$1/leaf.pem") || begins=0
    if [ "$begins" -gt "$now" ]; then printf '%s' "$begins"; else printf '%s' "$now"; fi
}

# name_of DIRECTORY: the first DNS name of its leaf.
name_of() {
    alone openssl x509 -in "$1/leaf.pem" -noout -ext subjectAltName 2>/dev/null |
        tr ',' '\n' | sed -n 's/^ *DNS:\([A-Za-z0-9.-]*\)$/\1/p' | head -n 1
}

# served NAME: the fingerprint of what the server shows for a name.
served() {
    alone timeout 5 openssl s_client -connect "$check" -servername "$1" </dev/null 2>/dev/null 9>&- | fingerprint_of || true
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

# test_server: whether the server takes its configuration; if not, `said` is its own word on it, without what only warns, numbers of
# processes, and whatever may be a key. Into a file: what a test leaves running would keep a pipe open.
test_server() {
    words="$base/.words"
    { printf '' >"$base/.words"; } 2>/dev/null || words=/dev/null
    taken=0
    ask_server >/dev/null 2>"$words" 9>&- || taken=$?
    said=''
    if [ "$taken" -ne 0 ]; then
        said=$(head -c 4096 "$words" | sed '/-----BEGIN/,/-----END/d; /\[notice\]/d; /\[NOTICE\]/d; /\[warn\]/d; /\[WARNING\]/d
            s/ *([0-9][0-9]*)//g; s/[A-Za-z0-9+=]\{32,\}/.../g' | tr '\n\t' '  ' | sed 's/ *$//')
    fi
    rm -f "$base/.words" 2>/dev/null || true
    [ "$taken" -eq 0 ]
}

# is_about_pair: whether that word is about the pair: another one may mend it.
is_about_pair() {
    case "$said" in *"/$stack/current"* | *"/$stack/generations/"*) return 0 ;; *) return 1 ;; esac
}

# Children never inherit the lock: a server started here would keep it. One that does not answer is not waited for for ever.
ask_server() {
    case "$driver" in
        hook) ESPALIER_STACK="$stack" ESPALIER_DIRECTORY="$base/current" timeout -k 5 60 "$hooks/test" ;;
        httpd)
            if [ -n "$control" ]; then
                timeout -k 5 60 "$control" -t
            elif command -v httpd >/dev/null; then
                timeout -k 5 60 httpd -t
            else
                timeout -k 5 60 apache2ctl configtest
            fi
            ;;
        nginx) timeout -k 5 60 "${control:-nginx}" -t ;;
        haproxy)
            if [ -n "$control" ]; then
                timeout -k 5 60 "$control" -c
            elif [ -d /etc/haproxy/conf.d ]; then
                # Amazon Linux's unit reads both.
                timeout -k 5 60 haproxy -c -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf.d
            else
                timeout -k 5 60 haproxy -c -f /etc/haproxy/haproxy.cfg
            fi
            ;;
    esac
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
    rm -f "$base/.$1.new" && ln -s "$2" "$base/.$1.new" && mv -T "$base/.$1.new" "$base/$1" && sync "$base"
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

# is_no_worse PLACE NEWER SECONDS: whether going back from the newer one there is no step down: a pair that was confirmed on
# this host, that is whole, and that lasts for longer than this. A clock that is behind does not make one last.
is_no_worse() {
    if [ -z "$1" ] || [ ! -d "$base/$1" ] || ! is_good "$base/$1"; then return 1; fi
    [ "$(cat "$base/$1/generation")" -le "$(floor_of_host)" ] || return 1
    [ "$(instant end "$base/$1/leaf.pem")" -gt $(($(by_now "$base/$2") + $3)) ]
}

# arm PLACE NEWER: if asked for, the host goes back there by itself unless it is told in time that the new pair was seen. This
# is written down before anything is swapped, so that a run that ends half-way is taken back as well.
arm() {
    armed=''
    if [ "$SSM_ConfirmSeconds" -eq 0 ] || [ "$generation" -le "$(floor_of_host)" ]; then return 0; fi
    is_no_worse "$1" "$2" $((SSM_ConfirmSeconds + SSM_MarginHours * 3600)) || return 0
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
        if ! is_no_worse "$before" current $((margin * 3600)); then
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
    if is_in_place && is_whole "$base/current"; then
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
    why=${said:+": $said"}
    if [ -n "$old" ] && [ "$failed" = "$old" ]; then
        blame_server "$1"
        report "$code" "$1: the confirmed generation was asserted again in vain$why"
    fi
    if [ -z "$old" ] || [ ! -d "$base/$old" ]; then
        # What something leads to is not removed.
        rm -f "$base/current" || report "$code" "$1: the generation is still in place, it could not be taken away"
        sync "$base"
        if [ -n "$failed" ]; then rm -rf "${base:?}/$failed"; fi
        blame_server "$1"
        report "$code" "$1: there was no certificate before$why"
    fi
    point current "$old" || report "$code" "$1: the generation is still in place, the one before could not be put there"
    # A server whose configuration is broken for another reason must not be told to read it.
    if test_server; then
        reload_server || true
    elif is_good "$base/current" && ! is_about_pair; then
        said=${said:-it does not say why}
        refusal=$said
    fi
    rm -rf "${base:?}/${failed:?}"
    rm -f "$base/deadline"
    blame_server "$1"
    if serves "$(name_of "$base/$old")" "$(fingerprint_of <"$base/$old/leaf.pem")"; then
        report reverted "$1: the generation before is served again$why"
    fi
    if [ -z "$answered" ]; then
        report serverBroken "$1: it did not answer before, and does not with the generation before$why"
    fi
    report reverted "$1: the generation before is in place but the server does not show it$why"
}

# blame_server CAUSE: ends the run where the server refuses its configuration for what was wrong with it before, but for numbers of
# lines and processes. One that does not say why leaves it open whose fault it is.
blame_server() {
    if [ -z "$answered" ] && [ -n "$old" ] && [ "$failed" = "$old" ]; then
        report serverBroken "$1: it did not answer before, and does not now$why"
    fi
    if [ "$1" != configTestFailed ] || [ -z "$refusal" ] || [ "$(shape "$refusal")" != "$(shape "$said")" ]; then return 0; fi
    report serverBroken "its configuration is broken, not by this generation: $said"
}

# shape WORDS: without numbers.
shape() {
    printf '%s' "$1" | sed 's/[0-9][0-9]*/0/g'
}

# check_server: the server's word before anything is changed. What was broken before is not made worse, and no generation is to
# blame for it. But a pair that is missing, damaged, over, never proven, or named by that word may be what is wrong with it: the
# next one may mend that.
check_server() {
    step='testing the configuration as it is'
    if is_proven && [ -z "$(served "$(name_of "$base/current")")" ]; then answered=''; fi
    if test_server || is_about_pair; then return 0; fi
    if is_proven && is_in_time "$base/current"; then
        # Somebody may be writing it at this moment.
        sleep 5
        if test_server || is_about_pair; then return 0; fi
        report serverBroken "its configuration was broken before, nothing was changed: ${said:-it does not say why}"
    fi
    refusal=$said
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
    if [ -z "$answered" ]; then set -- "$1 by a server that did not answer before"; fi
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
    is_in_place && is_whole "$base/current" || return 0
    name=$(name_of "$base/current")
    serial=$(serial_of "$base/current/leaf.pem")
    if [ "$(served "$name")" = "$fingerprint" ]; then
        arm "$(readlink "$base/previous" || true)" current
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
        check_server
    fi
    arm "$old" current
    swapped=1
    prove
    prune
    done_as 'asserted again'
}

serial_of() {
    alone openssl x509 -in "$1" -noout -serial 2>/dev/null | sed 's/.*=//; s/^0*//' | tr 'A-F' 'a-f'
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
        if grep -qE 'Signature (expired|not yet current)|RequestTimeTooSkewed|RequestExpired' "$new/answer"; then
            report fetchFailed "$parameter could not be read: this host's clock, $(date -u +%Y-%m-%dT%H:%M:%SZ), is wrong: set it"
        fi
        if [ "$(($(date +%s) + pause))" -ge "$until_time" ]; then
            reason=$(sed -n 's/.*An error occurred (\([A-Za-z]*\)).*/\1/p' "$new/answer" | head -n 1)
            report fetchFailed "$parameter could not be read: ${reason:-no answer}"
        fi
        sleep "$pause" 9>&-
        [ "$pause" -ge 16 ] || pause=$((pause * 2))
    done
}

# One key at most, then the leaf, then its issuers.
split() {
    step='reading the bundle'
    awk -v new="$new" '
        /^-----BEGIN ([A-Z]+ )?PRIVATE KEY-----$/ { keys++; out = new "/key.pem" }
        /^-----BEGIN CERTIFICATE-----$/ { leaves++; out = new (leaves == 1 ? "/leaf.pem" : "/chain.pem") }
        out != "" { print > out }
        /^-----END / { out = "" }
        END { exit !(keys <= 1 && leaves >= 2) }
    ' "$new/bundle" || {
        if is_full; then report refused "stopped while $step: no room on the disk"; fi
        report invalidBundle 'the bundle is not one key, a leaf and its issuers'
    }
    [ "$(fingerprint_of <"$new/leaf.pem")" = "$fingerprint" ] || report invalidBundle 'the leaf is not the one announced'
    [ -f "$new/key.pem" ] || take_key
    rm -f "$new/bundle" "$new/answer"
    cat "$new/leaf.pem" "$new/chain.pem" >"$new/fullchain.pem"
    # HAProxy reads the pair from one file.
    if [ "$driver" = haproxy ]; then cat "$new/key.pem" "$new/fullchain.pem" >"$new/haproxy.pem"; fi
    printf '%s\n' "$generation" >"$new/generation"
}

# The bundle of a leaf whose key was made here: before it is installed it lies with what is prepared, afterwards beside the leaf.
# Copied: a pair that is taken back, or never got so far, is installed again.
take_key() {
    step='taking the key'
    wanted=$(public_of leaf "$new/leaf.pem")
    for key in "$base/prepared/$generation/key.pem" "$base"/generations/*/key.pem; do
        if [ -s "$key" ] && [ "$(public_of key "$key")" = "$wanted" ]; then
            cat "$key" >"$new/key.pem"
            return 0
        fi
    done
    report noKey "the bundle holds no key, and the one of its leaf is not on this host"
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
    is_whole "$new" || report invalidBundle 'key, leaf and issuer do not fit together'
    check_dates
    name=$(name_of "$new")
    [ -n "$name" ] || report invalidBundle 'the leaf names no host'
    serial=$(serial_of "$new/leaf.pem")
}

# This host's clock may be what is wrong. It is, where it says that a pair which was seen to work here has not begun; and where both
# have ended, nothing is lost by the one that lasts longer. Otherwise nobody can tell, and nothing is changed.
check_dates() {
    if is_in_time "$new"; then return 0; fi
    clock=$(date +%s)
    if is_proven && [ "$(instant end "$new/leaf.pem")" -gt "$(instant end "$base/current/leaf.pem")" ]; then
        if [ "$clock" -lt "$(instant start "$base/current/leaf.pem")" ]; then return 0; fi
        if [ "$clock" -ge "$(instant end "$base/current/leaf.pem")" ]; then return 0; fi
    fi
    of_leaf=$(alone openssl x509 -in "$new/leaf.pem" -noout -startdate -enddate | tr '\n' ' ')
    report invalidBundle "the leaf has ${of_leaf}and this host's clock says $(date -u '+%b %e %T %Y GMT'): if that is wrong, set it"
}

# is_proven: whether `current` leads to a whole pair that was confirmed on this host.
is_proven() {
    is_whole "$base/current" && [ "$(cat "$base/current/generation")" -le "$(floor_of_host)" ]
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
    arm "$old" "$place"
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
    # What awaits confirmation may be taken back, and come again with the same leaf; what stays has its key beside its leaf.
    discard_keys "$(floor_of_host)"
}

# discard_keys LAST: the prepared keys up to this generation's are of no use any more.
discard_keys() {
    for entry in "$base"/prepared/*; do
        case "${entry##*/}" in
            *[!0-9]*) ;;
            *) if [ "${entry##*/}" -le "$1" ]; then rm -rf "$entry"; fi ;;
        esac
    done
}

# lock HOW: one run at a time on this host.
lock() {
    step='taking the lock'
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

# A key that never leaves this host: whole and on the disk for good before it has its name, and made once for each generation,
# because its leaf may be signed already when the request is asked for again.
make_key() {
    step='making the key'
    kind=''
    # What a copy of another host's disk holds is that host's.
    if [ "$(cat "$base/prepared/$generation/node" 2>/dev/null)" = "$node" ]; then
        kind=$(kind_of "$base/prepared/$generation/key.pem")
    fi
    [ "$kind" != "$SSM_KeyType" ] || return 0
    [ -z "$kind" ] || report refused "the key of generation $generation is there already, and its type is $kind"
    new="$base/.prepared.new"
    mkdir "$new"
    case "$SSM_KeyType" in
        EC_prime256v1) set -- EC ec_paramgen_curve:prime256v1 ec_param_enc:named_curve ;;
        EC_secp384r1) set -- EC ec_paramgen_curve:secp384r1 ec_param_enc:named_curve ;;
        RSA_*) set -- RSA "rsa_keygen_bits:${SSM_KeyType#RSA_}" ;;
        Ed25519) set -- ED25519 ;;
    esac
    # It keeps the lock: one that outlives a killed run must not write into what the next one makes.
    openssl genpkey -algorithm "$1" ${2:+-pkeyopt "$2"} ${3:+-pkeyopt "$3"} -out "$new/key.pem" >/dev/null 2>&1 || true
    # Whatever openssl says: on a full disk, for one, it may have written half of it.
    if [ "$(kind_of "$new/key.pem")" != "$SSM_KeyType" ]; then
        if is_full; then report refused "stopped while $step: no room on the disk"; fi
        report refused "openssl on this host made no key of type $SSM_KeyType"
    fi
    printf '%s\n' "$node" >"$new/node"
    sync "$new/key.pem" "$new/node" "$new"
    # What may be there is no key of this host's.
    rm -rf "$base/prepared/$generation"
    mv -T "$new" "$base/prepared/$generation"
    new=''
}

# The request that is about this key, answers this command, and asks for nothing (PKCS#10, RFC 2986; the nonce as the
# challengePassword of RFC 2985): names and dates are not this host's to say.
make_request() {
    step='making the request'
    case "$SSM_KeyType" in
        EC_secp384r1) set -- -sha384 ;;
        Ed25519) set -- ;;
        *) set -- -sha256 ;;
    esac
    request=$(
        printf '%s\n' '[req]' 'prompt = no' 'string_mask = utf8only' 'distinguished_name = subject' 'attributes = attributes' \
            '[subject]' "O = $stack" "OU = $generation" "CN = $node" '[attributes]' "challengePassword = $SSM_Nonce" |
            openssl req -new -config /dev/stdin -key "$base/prepared/$generation/key.pem" -passin pass: "$@" \
                -outform DER 2>/dev/null | openssl base64 -A
    )
    printf '%s' "$request" | openssl base64 -d -A | openssl req -inform DER -verify -noout >/dev/null 2>&1 ||
        report refused 'openssl on this host made no request'
}

# The key of a generation to come, and what a certificate for it is asked with. Nothing that is served is touched.
prepare() {
    step='making room for the key'
    mkdir -p "$base/prepared"
    chmod 0700 "$base/prepared"
    make_key
    make_request
    step='writing the key'
    # Also what a killed run put there: nothing is signed for a key that the next power cut takes away.
    sync "$base/prepared/$generation/key.pem" "$base/prepared/$generation" "$base/prepared" "$base"
    discard_keys $((generation - 1))
    report prepared 'the key is on this host and stays there'
}

check_tools
check_parameters
read_configuration
# Whatever is not there, what was armed is taken back, and what was seen is confirmed.
if [ "$SSM_Action" = Install ]; then check_server_tools; fi
base="$directory/$stack"
if [ "$SSM_Action" = Confirm ] || [ "$SSM_Action" = Expire ]; then
    [ -d "$base" ] || report refused 'nothing was ever installed here'
    if [ "$SSM_Action" = Expire ]; then expire; fi
    # It may be about to be taken back at this moment.
    lock -w 60
    confirm
fi
make_directories
lock -n
# What a killed run left behind holds a key.
rm -rf "$base"/.new-* "$base"/.prepared.new "$base"/.current.new "$base"/.previous.new "$base"/.floor.new \
    "$base"/.deadline.new "$base"/.unconfirmed.new "$base"/.installer.new "$base"/.pair.conf.new "$base"/.words
if [ "$SSM_Action" = Prepare ]; then
    check_floor
    prepare
fi
name_pairs
check_floor
assert_current
spread
new="$base/.new-$generation"
mkdir "$new"
fetch
split
check_bundle
check_server
keep
swap
prove
prune
done_as 'served'
