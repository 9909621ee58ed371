# SPDX-License-Identifier: Apache-2.0
# Every word is scored as soon as it has ended, not when the input has.
mkfifo words scores
"$SOOTHE" score --stream --json <words >scores &
exec 3>words 4<scores
printf 'hello my ' >&3
read -r a <&4
read -r b <&4
echo "${a%%\"toxicity*}"
echo "${b%%\"toxicity*}"
printf 'idi' >&3
printf 'ot and friend' >&3
read -r c <&4
read -r d <&4
echo "$c" | sed -E 's/"toxicity":0\.9.*"max":0\.9.*/toxic/'
echo "${d%%\"toxicity*}"
exec 3>&-
read -r e <&4
echo "${e%%\"toxicity*}"
read -r f <&4 || echo "end"
wait
# More white space than the room for a text, and a text past the words at which all of it is scored each time.
{ head -c 3000000 /dev/zero | tr '\0' ' '; echo 'hello my'; } | "$SOOTHE" score --stream --json >events
echo "${PIPESTATUS[1]}" # an overrun is found when the text is freed
sed 's/"toxicity.*//' events
for i in $(seq 70); do echo 'have a nice day'; done | tr '\n' ' ' >long.txt
"$SOOTHE" score --stream --json <long.txt >events
"$SOOTHE" score --json long.txt 2>/dev/null | sed 's/{"toxicity"/"text"/; s/}//' >whole
wc -l <events
tail -n 1 events | grep -c -F -f whole
