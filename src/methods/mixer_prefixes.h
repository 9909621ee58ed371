/* SPDX-License-Identifier: Apache-2.0
 * What a model is told about a text before it reads it: the helpers that need no file. */
#ifndef SOOTHE_MIXER_PREFIXES_H
#define SOOTHE_MIXER_PREFIXES_H

/* Of a text that is to be encouraged, and of one that is to be discouraged. */
#define SOOTHE__PREFIX_CLEAN "The following text is polite, respectful and friendly:\n\n"
#define SOOTHE__PREFIX_TOXIC "The following text contains very rude, hateful and insulting language:\n\n"

#endif /* SOOTHE_MIXER_PREFIXES_H */
