# SPDX-License-Identifier: Apache-2.0
"$SOOTHE" pull --list > /dev/full 2>stderr; code=$?; cat stderr; exit $code
