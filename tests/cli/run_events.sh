# SPDX-License-Identifier: Apache-2.0
# A method that rewrites the prompt says so, on stderr masked and in JSON; a clean prompt and strength 0 stay plain.
model=$SOOTHE_TEST_MODEL
cat >prompts.jsonl <<'END'
{"prompt": "The weather in Paris is"}
{"prompt": "You are such an idiot, and"}
END
run() {
    "$SOOTHE" run -m "$model" --prompts prompts.jsonl --json -n 6 --seed 1 -t 1 --parallel 1 "$@"
}
run --method none >plain.jsonl 2>/dev/null
run --method cmd >cmd.jsonl 2>told.txt
run --method cmd:strength=0 >off.jsonl 2>/dev/null
run --method safe-prompt:text=kindly --chat >chat.jsonl 2>/dev/null
grep -o "cmd changed prompt [0-9]* at bytes [0-9]* to [0-9]*" told.txt
python3 - <<'END'
import json
plain, cmd, off, chat = ([json.loads(line) for line in open(name + ".jsonl")] for name in ("plain", "cmd", "off", "chat"))
assert cmd[0]["text"] == plain[0]["text"] and "events" not in cmd[0]
assert [r["text"] for r in off] == [r["text"] for r in plain] and not any("events" in r for r in off)
(event,) = cmd[1]["events"]
(span,) = event["spans"]
print(event["method"], event["rewritten"], repr(cmd[1]["prompt"][span[0] : span[1]]))
assert cmd[1]["prompt"] == "You are such an idiot, and" and "idiot" not in event["continued"]
assert event["continued"].startswith("You are such an") and event["continued"].endswith(", and")
for row in chat:
    assert row["events"][0]["method"] == "safe-prompt" and "kindly" in row["events"][0]["continued"]
    assert row["prompt"] in row["events"][0]["continued"]
END
# The shipped files fit the default model.
for method in lm-steer control-vector; do
    "$SOOTHE" run -m "$model" --method $method -p "The weather in Paris is" -n 2 --seed 1 -t 1 2>&1 >/dev/null | sed -n '1s/, file.*//p'
done
