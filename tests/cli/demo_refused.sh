# SPDX-License-Identifier: Apache-2.0
export SOOTHE_MODELS=/nonexistent
"$SOOTHE" demo -m "$SOOTHE_TEST_MODEL" 2>&1
echo "exit $?"
"$SOOTHE" demo --seed x 2>&1
echo "exit $?"
"$SOOTHE" demo now 2>&1
echo "exit $?"
