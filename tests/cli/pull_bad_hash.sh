# SPDX-License-Identifier: Apache-2.0
"$SOOTHE" pull https://example.org/x.gguf --sha256 abc 2>&1
