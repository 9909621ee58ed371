#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the binary part of fuzz/corpus again: calibrators, LoRA files, checkpoints and scorers, good and bad.   make_fuzz_corpus.sh BUILD
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "${1:-build}")
data=$PWD/tests/data
out=$PWD/fuzz/corpus/calibrator
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
soothe=$build/soothe
tiny=$build/tests/make_tiny
"$tiny" target.gguf d=32 blocks=1 # as in fuzz/fuzz_calibrator.c
"$soothe" calibrator init -m target.gguf --blocks 1 -o full.gguf
"$soothe" calibrator init -m target.gguf --blocks 0 -o matrix.gguf
"$soothe" calibrator pack full.gguf --base target.gguf -o delta.gguf
"$tiny" other-words.gguf d=32 blocks=1 other-words
"$soothe" calibrator init -m other-words.gguf --blocks 1 -o bad-vocabulary.gguf
"$tiny" wide.gguf d=64 blocks=1
"$soothe" calibrator init -m wide.gguf --blocks 0 -o bad-width.gguf
"$tiny" nan.gguf d=32 blocks=1 nan
"$soothe" calibrator init -m nan.gguf --blocks 1 -o bad-nan.gguf
head -c 3000 full.gguf >bad-cut-header.gguf
head -c $(($(stat -c %s full.gguf) - 200)) full.gguf >bad-cut-data.gguf
cp target.gguf bad-no-calibrator.gguf
LC_ALL=C sed 's/<|299|>/<|298|>/' full.gguf >bad-repeated-token.gguf # the engine aborts on such a vocabulary
: >bad-empty.gguf
LC_ALL=C sed 's/general\.name/\x00eneral.name/' full.gguf >bad-zero-key.gguf # read, but not copied by the engine
printf 'GGUF\3\0\0\0\377\377\377\377\377\377\377\177\377\377\377\377\377\377\377\177' >bad-counts.gguf
printf 'GGUF\3\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\377\377\377\377\377\377\377\177key' >bad-key-length.gguf
cp full.gguf matrix.gguf delta.gguf bad-*.gguf "$out"

out=${out%calibrator}alignment
mkdir -p "$out"
for i in $(seq 8); do
    printf '{"prompt": "p%s", "chosen": " a%sbb", "rejected": " a%scc"}\n' "$i" "$i" "$i"
    printf '{"text": "some text number %s of many"}\n' "$i"
done >pairs.jsonl
align() { "$soothe" align -m target.gguf --data pairs.jsonl --steps 1 --pairs-per-step 1 --texts-per-step 1 "$@" >/dev/null 2>&1; }
align --calibrator full.gguf --bias -o with-a.gguf
align --matrix -o alone.gguf
align --calibrator full.gguf --objective ridge -o paper.gguf
size=$(stat -c %s with-a.gguf)
head -c $((size - 200)) with-a.gguf >bad-cut.gguf
head -c 400 with-a.gguf >bad-header.gguf
LC_ALL=C sed 's/soothe\.target\.fingerprint/soothe.target.fingerprinx/' with-a.gguf >bad-no-target.gguf
LC_ALL=C sed 's/calibrator_sha256/calibrator_sha257/' with-a.gguf >bad-no-calibrator.gguf
LC_ALL=C sed 's/residual/residuam/' with-a.gguf >bad-form.gguf
cp full.gguf bad-kind.gguf
cp with-a.gguf alone.gguf paper.gguf bad-cut.gguf bad-header.gguf bad-no-target.gguf bad-no-calibrator.gguf bad-form.gguf \
    bad-kind.gguf bad-empty.gguf "$out"
rm bad-*.gguf
: >bad-empty.gguf

out=${out%alignment}lora
mkdir -p "$out"
"$tiny" learns.gguf d=32 blocks=1 seed=4
"$soothe" tune --objective sft -m learns.gguf --data pairs.jsonl --steps 1 --rank 2 --tensors q,down --lora -o good.gguf >/dev/null 2>&1
size=$(stat -c %s good.gguf)
head -c $((size - 40)) good.gguf >bad-cut.gguf
head -c 200 good.gguf >bad-cut-header.gguf
LC_ALL=C sed 's/attn_q.weight.lora_b/attn_q.weight.lora_c/' good.gguf >bad-no-b.gguf
LC_ALL=C sed 's/attn_q.weight.lora/attn_x.weight.lora/g' good.gguf >bad-unknown.gguf
LC_ALL=C sed 's/attn_q.weight.lora/attn_k.weight.lora/g' good.gguf >bad-shape.gguf
LC_ALL=C sed 's/soothe\.target\.fingerprint/soothe.target.fingerprinx/' good.gguf >good-any-base.gguf
cp good.gguf good-any-base.gguf bad-cut.gguf bad-cut-header.gguf bad-no-b.gguf bad-unknown.gguf bad-shape.gguf bad-empty.gguf "$out"
rm good*.gguf bad-cut*.gguf bad-no-*.gguf bad-unknown.gguf bad-shape.gguf

out=${out%lora}checkpoint
mkdir -p "$out"
"$tiny" good.gguf checkpoint
size=$(stat -c %s good.gguf)
head -c $((size - 40)) good.gguf >bad-cut.gguf
head -c 200 good.gguf >bad-cut-header.gguf
{ head -c $((size - 60)) good.gguf; printf 'x'; tail -c 59 good.gguf; } >bad-value.gguf
cp matrix.gguf bad-no-checkpoint.gguf
cp good.gguf bad-cut.gguf bad-cut-header.gguf bad-value.gguf bad-no-checkpoint.gguf bad-empty.gguf "$out"

out=${out%checkpoint}scorer_file
mkdir -p "$out"
head -n 200 "$data/scorer_train.jsonl" >rows.jsonl
"$soothe" score train --data rows.jsonl --bits 8 --words 4 --iterations 5 -o good.gguf >/dev/null 2>&1
head -c 900 good.gguf >bad-cut-header.gguf
head -c $(($(stat -c %s good.gguf) - 100)) good.gguf >bad-cut-data.gguf
LC_ALL=C sed 's/soothe-ngram-scorer/soothe-ngram-scorxr/' good.gguf >bad-type.gguf
LC_ALL=C sed 's/soothe\.ngram\.scale/soothe.ngram.scalf/' good.gguf >bad-no-scale.gguf
LC_ALL=C sed 's/soothe\.ngram\.bias/soothe.ngram.biaz/' good.gguf >bad-no-bias.gguf
{ head -c $(($(stat -c %s good.gguf) - 64)) good.gguf; printf '%64s' '' | tr ' ' '\200'; } >bad-code.gguf
cp matrix.gguf bad-no-scorer.gguf
cp good.gguf bad-cut-header.gguf bad-cut-data.gguf bad-type.gguf bad-no-scale.gguf bad-no-bias.gguf bad-code.gguf bad-no-scorer.gguf bad-empty.gguf "$out"

out=${out%/*}/probe
mkdir -p "$out"
"$tiny" probed.gguf d=32 blocks=1
for i in $(seq 200); do printf '{"text": "a%s b", "label": %s}\n' "$i" $((i % 2)); done >texts.jsonl
"$soothe" probe train -m probed.gguf --data texts.jsonl --layers 0 -o probe.gguf >/dev/null
"$soothe" polar fit -m probed.gguf --scorer lexicon --band 0.1,0.5 --scorer probe.gguf --data texts.jsonl --layer 0 --hidden 2 \
    -o polar.gguf >/dev/null
"$soothe" polar fit --scorer lexicon --band 0.1,0.5 --data texts.jsonl -o polar-small.gguf >/dev/null
"$soothe" probe train -m probed.gguf --data texts.jsonl --layers final --pool last -o final.gguf >/dev/null
printf '{"prompt": "a b c"}\n{"prompt": "d e"}\n' >prompts.jsonl
"$soothe" sasa fit-delta -m probed.gguf --subspace final.gguf --prompts prompts.jsonl -n 8 -t 1 -o sasa-delta.gguf >/dev/null
for name in probe polar sasa-delta; do
    size=$(stat -c %s $name.gguf)
    head -c $((size - 40)) $name.gguf >bad-$name-cut.gguf
    head -c 300 $name.gguf >bad-$name-header.gguf
done
LC_ALL=C sed 's/soothe\.probe\.layer/soothe.probe.lager/' probe.gguf >bad-probe-no-layer.gguf
LC_ALL=C sed 's/quadratic/quadratik/' polar.gguf >bad-polar-scalarisation.gguf
LC_ALL=C sed 's/soothe\.polar\.identities/soothe.polar.identitiez/' polar.gguf >bad-polar-identities.gguf
LC_ALL=C sed 's/soothe\.sasa\.subspace/soothe.sasa.subspase/' sasa-delta.gguf >bad-sasa-delta-subspace.gguf
cp probe.gguf polar.gguf polar-small.gguf sasa-delta.gguf bad-probe-*.gguf bad-polar-*.gguf bad-sasa-delta-*.gguf bad-empty.gguf "$out"

out=${out%/*}/nado
mkdir -p "$out"
for prompt in a b c d e f g h i j; do
  printf '{"prompt":"%s","completion":"xyz","score":1}\n{"prompt":"%s","completion":"uvw","score":0}\n' $prompt $prompt
done >samples.jsonl
"$soothe" nado train -m target.gguf --samples samples.jsonl --rank 2 --epochs 1 -t 1 -o nado.gguf >/dev/null 2>&1
head -c 700 nado.gguf >bad-cut-header.gguf
head -c $(($(stat -c %s nado.gguf) - 40)) nado.gguf >bad-cut.gguf
LC_ALL=C sed 's/soothe\.nado\.rank/soothe.nado.rang/' nado.gguf >bad-no-rank.gguf
LC_ALL=C sed 's/soothe-nado/soothe-nadx/' nado.gguf >bad-type.gguf
cp nado.gguf bad-cut-header.gguf bad-cut.gguf bad-no-rank.gguf bad-type.gguf bad-empty.gguf "$out"

out=${out%/*}/control_vector
mkdir -p "$out"
"$tiny" steered.gguf d=32 blocks=2 # as in fuzz/fuzz_control_vector.c
"$tiny" deeper.gguf d=32 blocks=3
printf '{"prompt": "a", "chosen": " bc", "rejected": " d"}\n' >pairs.jsonl
for model in steered deeper; do
    "$soothe" control-vector -m $model.gguf --data pairs.jsonl -o vector-$model.gguf >/dev/null 2>&1
done
cp vector-steered.gguf vector.gguf
cp vector-deeper.gguf bad-other-model.gguf
LC_ALL=C sed 's/soothe\.target\.fingerprint/soothe.target.fingerprinz/' vector.gguf >foreign.gguf
LC_ALL=C sed 's/soothe\.target\.fingerprint/soothe.target.fingerprinz/' vector-deeper.gguf >bad-layer.gguf
LC_ALL=C sed 's/direction\.1/direction.x/' vector.gguf >bad-direction.gguf
LC_ALL=C sed 's/controlvector/controlvectox/' vector.gguf >bad-architecture.gguf
head -c 300 vector.gguf >bad-cut-header.gguf
head -c $(($(stat -c %s vector.gguf) - 40)) vector.gguf >bad-cut-data.gguf
cp vector.gguf foreign.gguf bad-other-model.gguf bad-layer.gguf bad-direction.gguf bad-architecture.gguf \
    bad-cut-header.gguf bad-cut-data.gguf bad-empty.gguf "$out"

out=${out%/*}/word_table
mkdir -p "$out"
for i in $(seq 12); do printf '{"text": "this is a rather %s text number %s"}\n' "$( ((i % 2)) && echo awful || echo lovely)" "$i"; done >sentences.jsonl
"$soothe" cfl train --data sentences.jsonl --scorer lexicon -o table.gguf >/dev/null
printf '# words\nawful\t0.5\nvery bad\nna\303\257ve\t2\n' >list.txt
head -c 700 table.gguf >bad-table-header.gguf
LC_ALL=C sed 's/rather/RATHER/' table.gguf >bad-table-word.gguf
LC_ALL=C sed 's/soothe\.table\.weight/soothe.table.weighd/' table.gguf >bad-table-no-weight.gguf
LC_ALL=C sed 's/soothe-token-table/soothe-token-tablf/g' table.gguf >bad-table-type.gguf
printf 'good\nb*d\n' >bad-list.txt
cp table.gguf list.txt bad-table-*.gguf bad-list.txt bad-empty.gguf "$out"

out=${out%/*}/diff
mkdir -p "$out"
rm -f bad-*.gguf
"$soothe" edit surgery -m probed.gguf --probe final.gguf --rows 5 -o edited.gguf --diff add.gguf --keep-rows >/dev/null
"$soothe" edit surgery -m probed.gguf --probe final.gguf --rows 5 --diff small.gguf >/dev/null
"$soothe" edit diff -m edited.gguf --base probed.gguf -o rows.gguf --keep-rows >/dev/null
"$tiny" stranger.gguf d=32 blocks=1 seed=2
"$soothe" probe train -m stranger.gguf --data texts.jsonl --layers final --pool last -o strange.gguf >/dev/null
"$soothe" edit surgery -m stranger.gguf --probe strange.gguf --rows 5 --diff other-model.gguf >/dev/null
head -c 700 add.gguf >bad-cut-header.gguf
head -c $(($(stat -c %s rows.gguf) - 200)) rows.gguf >bad-cut-data.gguf
for word in factors tensors ids add gate fingerprint; do # a word with another last letter
    LC_ALL=C sed "s/${word%?}${word: -1}/${word%?}Z/g" add.gguf >"bad-$word.gguf"
done
LC_ALL=C sed 's/0\.new/0.nez/' rows.gguf >bad-no-rows.gguf
cp probed.gguf bad-no-diff.gguf
: >bad-empty.gguf
cp add.gguf small.gguf rows.gguf other-model.gguf bad-*.gguf "$out"
