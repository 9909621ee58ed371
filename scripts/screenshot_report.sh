#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Photographs a report page with headless Chromium (Debian: apt-get install chromium).
#   screenshot_report.sh REPORT.html OUT.png [light|dark] [WIDTH] [HEIGHT]
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: screenshot_report.sh REPORT.html OUT.png [light|dark] [WIDTH] [HEIGHT]" >&2
    exit 2
fi
page=$(realpath "$1") out=$(realpath -m "$2") theme=${3:-light} width=${4:-1280} height=${5:-1600}
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
    echo "screenshot_report.sh: no Chromium here" >&2
    exit 1
}
scheme=1 # Blink's PreferredColorScheme: 0 dark, 1 light
[ "$theme" = dark ] && scheme=0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# A window has a least width of some 500 pixels, a frame has none: narrow pages are shown in a frame.
if [ "$width" -lt 520 ]; then
    cat >"$folder/frame.html" <<HTML
<!doctype html><style>body{margin:0}iframe{border:0;display:block;width:${width}px;height:${height}px}</style>
<iframe src="file://$page"></iframe>
HTML
    page=$folder/frame.html
fi
"$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --allow-file-access-from-files \
    --user-data-dir="$folder/profile" --blink-settings=preferredColorScheme=$scheme \
    --window-size="$width,$height" --virtual-time-budget=3000 --screenshot="$out" "file://$page" 2>"$folder/log" ||
    { cat "$folder/log" >&2; exit 1; }
[ -s "$out" ] || { cat "$folder/log" >&2; exit 1; }
echo "$out"
