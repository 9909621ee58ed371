# SPDX-License-Identifier: Apache-2.0
"$SOOTHE" pull nosuchmodel 2>&1
