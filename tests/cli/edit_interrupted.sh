# SPDX-License-Identifier: Apache-2.0
# Killed, out of room, in a folder that cannot be written to: the original is whole, and there is no half file.
"$MAKE_TINY" model.gguf d=256 blocks=8
for i in $(seq 200); do printf '{"text": "a%s b%s", "label": %s}\n' "$i" "$((i % 2))" $((i % 2)); done >data.jsonl
"$SOOTHE" edit surgery -m model.gguf --data data.jsonl --layer 0 -t 1 --diff edit.diff.gguf >/dev/null 2>&1
before=$(sha256sum model.gguf)
# kill -9 as soon as the new file is begun
for i in 1 2 3 4 5 6; do
    "$SOOTHE" edit apply -m model.gguf --diff edit.diff.gguf -o out.gguf 2>/dev/null &
    pid=$!
    while kill -0 $pid 2>/dev/null && ! ls -A | grep -q '^\.soothe-.*tmp$'; do :; done
    { kill -9 $pid; wait $pid; } 2>/dev/null
    if [ -e out.gguf ]; then # it was quicker than the kill
        "$SOOTHE" edit verify -m out.gguf >/dev/null || echo half a file
        rm out.gguf
    fi
    rm -f .soothe-*.tmp
done
# a full disk
for blocks in 1 40 400; do
    (ulimit -f $blocks; trap '' XFSZ; "$SOOTHE" edit apply -m model.gguf --diff edit.diff.gguf -o out.gguf 2>err; echo $?)
    grep -c 'cannot write out.gguf: File too large' err
    (ulimit -f $blocks; trap '' XFSZ; TMPDIR=. "$SOOTHE" run -m model.gguf+edit.diff.gguf --method none -p a -n 1 2>err; echo $?)
done
# read-only
"$SOOTHE" edit apply -m model.gguf --diff edit.diff.gguf -o /proc/out.gguf 2>&1 | sed 's/: No such.*\|: Perm.*\|: Read.*//'
[ "$before" = "$(sha256sum model.gguf)" ] && echo the original is whole
ls -A | grep -v '^err$\|^std'
