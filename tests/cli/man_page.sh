# SPDX-License-Identifier: Apache-2.0
# The manual names every command and every option of run.
page=$SOOTHE_SOURCE/man/soothe.1
for command in $("$SOOTHE" help | sed -n 's/^    \([a-z]*\)  .*/\1/p'); do
    grep -q "^\.SS $command" "$page" || echo "not in the manual: $command"
done
"$SOOTHE" help run | grep -oE -- '--[a-z-]+' | grep -vx -e --help | sort -u | while read -r option; do
    sed 's/\\-/-/g' "$page" | grep -q -- "$option" || echo "not in the manual: run $option"
done
echo checked
