# SPDX-License-Identifier: Apache-2.0
"$SOOTHE" pull --list
