# SPDX-License-Identifier: Apache-2.0
python3 "$SOOTHE_SOURCE/scripts/embed.py" --check
