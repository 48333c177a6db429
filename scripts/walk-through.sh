#!/usr/bin/env bash
# Runs the commands of a section of a page as they are printed, against a server, and compares each answer's status with
# the comment before the command:  walk-through.sh http://127.0.0.1:8080 [docs/INTEGRATION.md] ['## Tables with curl']
set -euo pipefail
server=$1
page=${2:-$(dirname "$0")/../docs/INTEGRATION.md}
heading=${3:-## Tables with curl}

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mkdir "$place/bin" "$place/work"

# The blocks of the section, and what they promise: one `# 201 …` line a request.
awk -v heading="$heading" '
    $0 == heading { inside = 1; next }
    inside && /^## / { exit }
    inside && /^```/ { code = ($0 == "```sh"); next }
    inside && code
' "$page" | sed "s|http://127.0.0.1:8080|$server|g" > "$place/commands"
sed -n 's/^# \([1-5][0-9][0-9]\)\([^0-9].*\)\{0,1\}$/\1/p' "$place/commands" > "$place/promised"
[ -s "$place/promised" ] || { echo "no command was found in $page under $heading" >&2; exit 1; }

# A curl that notes what status it saw, and otherwise is the one that was called.
real=$(command -v curl)
cat > "$place/bin/curl" <<SHIM
#!/usr/bin/env bash
exec 3>&1
heard=\$("$real" --silent --show-error --max-time 60 --write-out '%{stderr}%{http_code}' "\$@" 2>&1 >&3)
status=\$?
echo "\${heard: -3}" >> "$place/seen"
exit \$status
SHIM
chmod +x "$place/bin/curl"
: > "$place/seen"

cd "$place/work"
PATH="$place/bin:$PATH" bash -euo pipefail "$place/commands"
echo
diff --unified "$place/promised" "$place/seen" || { echo "the page promises (-) other statuses than it gets (+)" >&2; exit 1; }
echo "walked through: $(wc -l < "$place/seen") requests as printed"
