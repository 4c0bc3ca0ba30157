#!/bin/sh
# Installs Holdfast from a release archive: binary, user, configuration, systemd unit. Also removes it.
#
#   install.sh --from holdfast-0.1.0-linux-x86_64.tar.gz [--sha256 HEX]   a file here, or an https:// address
#   install.sh --uninstall                                               leaves keys and configuration
#
# --sha256 HEX      the archive's checksum, from a place you trust; otherwise SHA256SUMS beside the archive is used
# --root DIR        install into another system's root; nothing there is started
# --prefix DIR      where the binary goes (default: where it is, /usr/local at first)
# --no-service      only the binary
# Run again with a newer archive to upgrade: configuration and data stay, the service is not restarted.
set -eu

from="" sha256="" root="" prefix="" service=yes action=install
me=install.sh

say() { printf '%s\n' "$*"; }
fail() {
    printf '%s: %s\n' "$me" "$*" >&2
    exit 1
}
usage() {
    printf '%s: %s\n' "$me" "$*" >&2
    sed -n '4,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
need() { [ "$1" -ge 2 ] || usage "$2 needs a value"; }

while [ $# -gt 0 ]; do
    case "$1" in
        --from) need $# "$1"; from="$2"; shift 2 ;;
        --sha256) need $# "$1"; sha256="$2"; shift 2 ;;
        --root) need $# "$1"; root="${2%/}"; shift 2 ;;
        --prefix) need $# "$1"; prefix="${2%/}"; case "$2" in /?*) ;; *) usage "--prefix must be an absolute path" ;; esac; shift 2 ;;
        --no-service) service=no; shift ;;
        --uninstall) action=uninstall; shift ;;
        -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) usage "unknown option $1" ;;
    esac
done
if [ -e "$root/var/lib/dpkg/info/holdfast.list" ]; then
    fail "the Debian package holdfast is installed here: use apt to upgrade or remove it"
fi
# Whose program the unit that is there starts: an installation is upgraded where it is, and taken away from there.
found=""
for file in "$root/etc/systemd/system/holdfast.service" "$root/lib/systemd/system/holdfast.service"; do
    if [ -z "$found" ] && [ -f "$file" ]; then found="$(sed -n 's#^ExecStart=\(/.*\)/bin/holdfast .*#\1#p' "$file")"; fi
done
if [ "$action $service" != "install no" ] && [ -n "$found" ] && [ "${prefix:-$found}" != "$found" ]; then
    fail "holdfast.service starts $found/bin/holdfast: give --prefix $found, or none; to install elsewhere, uninstall first"
fi
prefix="${prefix:-${found:-/usr/local}}"

bin="$root$prefix/bin/holdfast"
share="$root$prefix/share"
doc="$share/doc/holdfast"
if [ "$prefix" = /usr ]; then units="$root/lib/systemd/system"; else units="$root/etc/systemd/system"; fi
sysusers="$root/etc/sysusers.d/holdfast.conf"
tmpfiles="$root/etc/tmpfiles.d/holdfast.conf"
config="$root/etc/holdfast/holdfast.toml"
data="$root/var/lib/holdfast"

[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "must run as root, for example with sudo (or give --root DIR)"
if [ -n "$root" ] && [ ! -d "$root" ]; then fail "--root: no directory $root"; fi
# Whether there is a systemd to talk to: not in another root, and not in most containers.
running() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

uninstall() {
    if running && [ -e "$units/holdfast.service" ]; then
        systemctl disable --now holdfast.service holdfast-vault.service holdfast-switcher.service || fail "the service could not be stopped: systemctl status holdfast"
    fi
    if [ ! -e "$bin" ]; then say "there is no $bin: if it was installed elsewhere, give the same --prefix (or --root) again"; fi
    wants="$root/etc/systemd/system/multi-user.target.wants"
    for file in "$bin" "$units/holdfast.service" "$units/holdfast-vault.service" "$units/holdfast-switcher.service" "$wants/holdfast.service" \
        "$wants/holdfast-vault.service" "$wants/holdfast-switcher.service" "$sysusers" "$tmpfiles"; do
        if [ -e "$file" ] || [ -L "$file" ]; then
            rm -f "$file"
            say "removed $file"
        fi
    done
    rm -f "$share"/man/man1/holdfast.1.gz "$share"/man/man1/holdfast-*.1.gz "$share/bash-completion/completions/holdfast" \
        "$share/zsh/site-functions/_holdfast" "$share/fish/vendor_completions.d/holdfast.fish"
    # Made by this script as a whole, and nobody's own files are there.
    if [ -d "$doc" ]; then rm -rf "$doc"; fi
    if running; then systemctl daemon-reload; fi
    if [ -d "$data" ]; then
        say "kept $data: keys and the record of what they signed. Delete it only when the keys sign elsewhere with"
        say "their history (holdfast keys export, holdfast backup create), or have exited."
    fi
    for kept in "$root"/etc/holdfast/* "$root"/etc/systemd/system/holdfast*.service.d; do
        if [ -e "$kept" ]; then say "kept $kept"; fi
    done
    say "kept the users holdfast, who owns the data, and holdfast-vault"
}

checksum() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum "$1" | cut -d' ' -f1
    elif command -v openssl >/dev/null 2>&1; then
        openssl dgst -sha256 -r "$1" | cut -d' ' -f1
    else
        fail "neither sha256sum nor openssl is here to check the archive"
    fi
}

download() {
    if command -v curl >/dev/null 2>&1; then
        curl --fail --silent --show-error --location --proto '=https' --output "$2" "$1" || fail "cannot download $1"
    elif command -v wget >/dev/null 2>&1; then
        wget --quiet --https-only --output-document="$2" "$1" || fail "cannot download $1"
    else
        fail "neither curl nor wget is here: download $1 elsewhere and give the file with --from"
    fi
}

# Sets wanted to the checksum that the archive must have.
find_wanted() {
    if [ -n "$sha256" ]; then
        wanted="$(printf '%s' "$sha256" | tr 'A-F' 'a-f')"
        case "$wanted" in *[!0-9a-f]*) usage "--sha256 is not hexadecimal" ;; esac
        [ "${#wanted}" = 64 ] || usage "--sha256 must have 64 digits"
        return
    fi
    sums="$(dirname "$archive")/SHA256SUMS"
    [ -f "$sums" ] || fail "there is no SHA256SUMS beside the archive: give its checksum with --sha256"
    wanted="$(awk -v name="$(basename "$archive")" '$2 == name || $2 == "*" name { print $1; exit }' "$sums")"
    [ -n "$wanted" ] || fail "$sums does not name $(basename "$archive"): give the checksum with --sha256"
}

# Sets archive to a local file.
fetch() {
    case "$from" in
        https://*)
            archive="$work/${from##*/}"
            download "$from" "$archive"
            # From the same place it shows a damaged download, and nothing more.
            if [ -z "$sha256" ]; then download "${from%/*}/SHA256SUMS" "$work/SHA256SUMS"; fi
            ;;
        http://*) fail "an archive is taken over https:// or from a file, not over http://" ;;
        *)
            [ -f "$from" ] || fail "--from: no file $from"
            archive="$from"
            ;;
    esac
}

put() { # MODE SOURCE DESTINATION, in one step, so that nobody ever runs half a file
    mkdir -p "$(dirname "$3")"
    temporary="$3.new.$$"
    cp "$2" "$temporary"
    chmod "$1" "$temporary"
    mv -f "$temporary" "$3"
}

one_user() { # NAME HOME
    if id "$1" >/dev/null 2>&1; then return; fi
    useradd --system --user-group --no-create-home --home-dir "$2" --shell /usr/sbin/nologin "$1" || fail "the user $1 could not be made"
}

make_user() {
    if command -v systemd-sysusers >/dev/null 2>&1; then
        if [ -n "$root" ]; then set -- "--root=$root"; else set --; fi
        systemd-sysusers "$@" holdfast.conf || fail "the users holdfast and holdfast-vault could not be made"
    elif [ -n "$root" ]; then
        say "note: systemd-sysusers is not here; the users holdfast and holdfast-vault are made at the first start of that system"
        return
    else
        one_user holdfast /var/lib/holdfast
        one_user holdfast-vault /
    fi
    if [ ! -d "$data" ]; then
        owner="$(awk -F: '$1 == "holdfast" { print $3 ":" $4 }' "$root/etc/passwd")"
        mkdir -p "$data"
        chmod 700 "$data"
        if [ -n "$owner" ]; then chown "$owner" "$data"; fi
    fi
}

install_all() {
    [ -n "$from" ] || usage "--from is needed: the release archive"
    if [ -n "$from" ] && [ -d "$from" ]; then fail "--from: $from is a directory, not an archive"; fi
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    fetch
    find_wanted
    got="$(checksum "$archive")"
    if [ "$got" != "$wanted" ]; then
        fail "the checksum of $archive is wrong, nothing was installed
  expected $wanted
  found    $got
Download it again, and compare with the checksum published for this version."
    fi
    mkdir "$work/files"
    tar -xzf "$archive" -C "$work/files" --no-same-owner || fail "$archive is not a release archive"
    set -- "$work"/files/*
    if [ $# -ne 1 ] || [ ! -f "$1/holdfast" ]; then fail "$archive is not a release archive: there is no holdfast in it"; fi
    files="$1"
    case "$(basename "$files")" in
        *-"$(uname -m)") ;;
        *) fail "$(basename "$files") is for another kind of machine than this one ($(uname -m))" ;;
    esac
    version="$("$files/holdfast" --version)" || fail "the binary does not run here: it needs glibc 2.34 or newer"

    put 755 "$files/holdfast" "$bin"
    say "installed $bin ($version)"
    if [ "$service" = no ]; then return; fi
    for page in "$files"/man/*.1.gz; do put 644 "$page" "$share/man/man1/$(basename "$page")"; done
    put 644 "$files/completions/holdfast.bash" "$share/bash-completion/completions/holdfast"
    put 644 "$files/completions/holdfast.zsh" "$share/zsh/site-functions/_holdfast"
    put 644 "$files/completions/holdfast.fish" "$share/fish/vendor_completions.d/holdfast.fish"
    # Of an older version nothing stays that the newer one does not have.
    if [ -d "$doc" ]; then rm -rf "$doc"; fi
    mkdir -p "$doc/examples"
    cp -R "$files"/*.md "$files"/LICENSE-* "$files/docs" "$files/deploy" "$doc/"
    cp "$files/config.example.toml" "$files"/drop-ins/*.conf "$doc/examples/"
    chmod -R u=rwX,go=rX "$doc"
    put 644 "$files/holdfast.sysusers" "$sysusers"
    put 644 "$files/holdfast.tmpfiles" "$tmpfiles"
    make_user
    for unit in holdfast holdfast-vault holdfast-switcher; do
        sed "/^ExecStart=/s#/usr/bin/holdfast#$prefix/bin/holdfast#; /^Documentation=/s#/usr/share#$prefix/share#" "$files/$unit.service" >"$work/$unit.service"
        put 644 "$work/$unit.service" "$units/$unit.service"
        say "installed $units/$unit.service"
    done
    if [ -e "$config" ]; then
        say "kept $config"
    else
        put 644 "$files/holdfast.toml" "$config"
        say "installed $config"
    fi
    if [ -n "$root" ] && command -v systemctl >/dev/null 2>&1; then
        systemctl --quiet --root="$root" enable holdfast.service
    elif running; then
        systemctl daemon-reload
        systemctl --quiet enable holdfast.service
        if systemctl --quiet is-active holdfast.service; then
            say "the old version signs on until: systemctl restart holdfast"
            if systemctl --quiet is-active holdfast-vault.service; then
                say "and the vault is the old one until: systemctl restart holdfast-vault (docs/runbooks/upgrade.md in $doc)"
            fi
            return
        fi
    fi
    case "$prefix" in /usr | /usr/local) program=holdfast ;; *) program="$prefix/bin/holdfast" ;; esac
    say "next: set the network in ${config#"$root"}, then"
    say "  sudo install -D -o holdfast -m 600 -t /run/import validator_keys/*.json password.txt"
    say "  sudo -u holdfast $program --config /etc/holdfast/holdfast.toml keys import --from /run/import --password-file /run/import/password.txt"
    say "  sudo systemctl start holdfast"
}

if [ "$action" = uninstall ]; then uninstall; else install_all; fi
