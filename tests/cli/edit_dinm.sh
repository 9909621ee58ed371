# SPDX-License-Identifier: Apache-2.0
# soothe edit dinm: misuse and bad input are one sentence each; what it writes loads, says what was done, and leaves the
# original as it was.
"$MAKE_TINY" target.gguf
"$MAKE_TINY" gpt2.gguf gpt2
printf '{"question": "ab", "attack": "x {question} y", "safe": "no", "unsafe": "yes"}\n{"prompt": "cd", "safe": "not so", "unsafe": "so it"}\n' >i.jsonl
printf '{"question": "why", "answer": "because of it"}\n' >g.jsonl
printf '{"question": "who"}\n{"question": "where"}\n' >q.jsonl
printf '{"text": "a text of no import"}\n' >t.jsonl
: >empty.jsonl
try() {
    "$SOOTHE" edit dinm "$@" 2>&1 >/dev/null | grep -v '^soothe: \(step\|the target writes\|looking\)'
    echo "exit ${PIPESTATUS[0]}"
}
before=$(sha256sum <target.gguf)
try -m target.gguf --instances i.jsonl
try -m target.gguf -o o.gguf
try -m target.gguf -o o.gguf --instances i.jsonl more
try -m target.gguf -o o.gguf --instances i.jsonl --locate best
try -m target.gguf -o o.gguf --instances i.jsonl --layer 1 --locate paper
try -m target.gguf -o o.gguf --instances i.jsonl --lr 0
try -m target.gguf -o o.gguf --instances empty.jsonl
try -m target.gguf -o o.gguf --instances i.jsonl --general g.jsonl --layer 4
try -m gpt2.gguf -o o.gguf --instances i.jsonl
try -m target.gguf -o target.gguf --instances i.jsonl --general g.jsonl
try -m target.gguf -o /dev/full/o.gguf --instances i.jsonl --general g.jsonl
try -m target.gguf -o o.gguf --instances i.jsonl --general g.jsonl --questions nowhere.jsonl
ls o.gguf 2>/dev/null
"$SOOTHE" edit dinm -m target.gguf -o o.gguf --instances i.jsonl --general g.jsonl --layer 2 -n 4 -t 1 --questions q.jsonl --texts t.jsonl \
    --scorer lexicon --limit 3 --write-instances w.jsonl --json 2>&1 >r.json
python3 - <<'PY'
import json
r = json.load(open("r.json"))
print(r["tensor"], r["rule"], r["steps"], r["type"], len(r["losses"]), sorted(r["layers"]))
print(r["written"]["nll"] < r["losses"][0]["nll"], r["losses"][0]["kl"])
for kind, x in r["verdict"]["defence"].items():
    print(kind, x["n"])
print(r["verdict"]["benign"]["n"], r["verdict"]["texts"]["n"], len(r["verdict"]["texts"]["perplexity"]))
PY
cmp i.jsonl w.jsonl >/dev/null || wc -l <w.jsonl
"$SOOTHE" edit dinm -m target.gguf -o 0.gguf --instances i.jsonl --general g.jsonl --steps 0 -n 4 -t 1 --no-report 2>/dev/null | head -n 1
"$SOOTHE" edit dinm -m target.gguf -o q.gguf --instances i.jsonl --general g.jsonl --layer 1 --type q8_0 -n 4 -t 1 --no-report 2>/dev/null | head -n 1 | cut -d, -f 1,2
"$SOOTHE" edit undo -m q.gguf --base target.gguf -o back.gguf >/dev/null && cmp target.gguf back.gguf && echo "taken back"
"$SOOTHE" edit verify -m q.gguf --base target.gguf >/dev/null && echo "as recorded"
"$SOOTHE" edit dinm -m target.gguf -o d.gguf --instances i.jsonl --general g.jsonl -n 4 -t 1 --no-report --diff d.diff.gguf >/dev/null 2>&1
"$SOOTHE" edit verify -m d.gguf --base target.gguf --diff d.diff.gguf >/dev/null && echo "the diff gives the same"
"$SOOTHE" edit dinm -m target.gguf -o d.gguf --instances i.jsonl --general g.jsonl -n 4 -t 1 --no-report --type f16 --diff e.diff.gguf 2>&1 >/dev/null |
    tail -n 1
"$SOOTHE" run -m o.gguf --method none -p a -n 2 --seed 1 >/dev/null 2>&1
echo "run $?"
[ "$before" = "$(sha256sum <target.gguf)" ] && echo "original as it was"
