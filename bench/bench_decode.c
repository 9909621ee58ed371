/* SPDX-License-Identifier: Apache-2.0
 * What fusion costs: plain and fused decoding in alternating runs of one process, as ratios.
 *
 *     bench_decode MODEL CALIBRATOR [rounds=15] [tokens=64] [prompt=512] [batch=1] [threads=N] [type=q4_0]
 *                                   [alignment=FILE] [base=FILE] [text=FILE]
 *
 * CALIBRATOR "-": none, an alignment that stands alone. batch: that many sequences go on from the prompt at once, a
 * token of each in every step. type is the data type of the calibrator's blocks in memory (q4_0, q8_0, …; default: as
 * the library chooses). The tokens are those of an English text, since a calibrator that follows the text has more to
 * do where characters are spread over tokens; text names another. A round times one prompt and `tokens` steps with the
 * plain session, then with the fused one (and the other way round in every second round). On a busy machine processor
 * time with threads=1 is the steadier figure: threads that wait for each other spin. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "engine/batch.h"
#include "engine/text_tokens.h"
#include "fusion/fusion.h"
#include "fusion/stage.h"

struct cost { /* seconds by the clock, and of all threads' processors: those hold on a busy machine, too */
    double wall, processor;
};

static struct cost now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (struct cost){soothe__seconds(), (double)t.tv_sec + 1e-9 * (double)t.tv_nsec};
}

static struct cost since(struct cost start) {
    const struct cost end = now();
    return (struct cost){end.wall - start.wall, end.processor - start.processor};
}

struct shape {
    double bytes; /* of weights read for one token: every matrix once, the embedding only as a head */
    double flops; /* two a weight */
};

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

static void die(const char *message) {
    fprintf(stderr, "bench_decode: %s\n", message);
    exit(1);
}

/* Of a model file up to block n_blocks; with_head counts output.weight or, where tied, the embedding. */
static struct shape shape_of(const char *path, int32_t n_blocks, bool with_head, bool with_matrices) {
    struct soothe__gguf g;
    struct soothe_error err;
    struct shape        s = {0};
    if (soothe__gguf_open(&g, path, &err) != SOOTHE_OK) {
        die(err.message);
    }
    const bool    untied = gguf_find_tensor(g.meta, "output.weight") >= 0;
    const int64_t n      = gguf_get_n_tensors(g.meta);
    for (int64_t i = 0; i < n; i++) {
        const char   *name  = gguf_get_tensor_name(g.meta, i);
        const int32_t block = soothe__block_of_tensor(name);
        const bool    head  = strcmp(name, untied ? "output.weight" : "token_embd.weight") == 0;
        const bool    ours  = strcmp(name, "soothe.a.weight") == 0 || strcmp(name, "soothe.b.weight") == 0;
        if ((block >= 0 && block < n_blocks) || (head && with_head)) {
            s.bytes += (double)gguf_get_tensor_size(g.meta, i);
        } else if (ours && with_matrices) {
            s.bytes += 4.0 * (double)soothe__gguf_n_elements(&g, i); /* F32 in memory */
        } else {
            continue;
        }
        s.flops += 2.0 * (double)soothe__gguf_n_elements(&g, i);
    }
    soothe__gguf_close(&g);
    return s;
}

/* What is decoded: sequence k's i-th token behind the prompt, and the prompt's. */
struct work {
    int32_t      n_batch, n_tokens, n_prompt, n_text;
    llama_token *text; /* (n_text), begun again at its end */
};

static struct cost step(struct soothe_session *s, const struct work *w) {
    struct soothe_error err;
    struct llama_batch  b = llama_batch_init(w->n_batch, 0, 1);
    for (llama_seq_id k = 1; k < w->n_batch; k++)
        soothe_seq_cp(s, 0, k, -1, -1);
    const struct cost start = now();
    for (int32_t i = 0; i < w->n_tokens; i++) {
        b.n_tokens = 0;
        for (llama_seq_id k = 0; k < w->n_batch; k++)
            soothe__batch_add(&b, w->text[(w->n_prompt + i + 37 * k) % w->n_text], w->n_prompt + i, k, true);
        if (soothe_decode(s, b, &err) != SOOTHE_OK) {
            die(err.message);
        }
        (void)llama_get_logits_ith(soothe_session_context(s), -1);
    }
    const struct cost cost = since(start);
    llama_batch_free(b);
    return cost;
}

static struct cost prompt(struct soothe_session *s, const struct work *w) {
    struct soothe_error err;
    llama_token        *tokens = soothe__calloc((size_t)w->n_prompt, sizeof *tokens);
    for (int32_t i = 0; tokens && i < w->n_prompt; i++) {
        tokens[i] = w->text[i % w->n_text];
    }
    soothe_clear(s);
    const struct cost start = now();
    if (!tokens || soothe_decode(s, llama_batch_get_one(tokens, w->n_prompt), &err) != SOOTHE_OK) {
        die(tokens ? err.message : "out of memory");
    }
    (void)llama_get_logits_ith(soothe_session_context(s), -1);
    const struct cost cost = since(start);
    free(tokens);
    return cost;
}

static const char TEXT[] =
    "The old lighthouse had stood on the cliff for more than a hundred years, and nobody in the village could remember "
    "a night on which its lamp had not been lit. In winter the keeper walked up the path at four in the afternoon; in "
    "summer he waited until nine, when the fishing boats came home. His daughter, who was eleven, counted the steps: "
    "two hundred and twelve to the gallery, and eight more to the glass. \"You can see the other island from here,\" "
    "she told her teacher, \"but only when the wind comes from the north.\" The teacher didn't believe it. On a clear "
    "Saturday in March they climbed up together with a telescope, a thermos of tea and some bread, and looked out over "
    "the water. There was a thin grey line, then a hill, then three white houses with red roofs and smoke above them. "
    "It isn't on any map that I own, the teacher said at last, and wrote the date and the hour into her notebook. ";

static void read_text(struct work *w, const char *path, const struct llama_vocab *vocab) {
    struct soothe_error err;
    char               *own  = NULL;
    size_t              size = sizeof TEXT - 1;
    if ((path && soothe__read_file(&own, &size, path, &err) != SOOTHE_OK) ||
        soothe__tokenize(&w->text, &w->n_text, vocab, own ? own : TEXT, size, SOOTHE__TOKENIZE_START, &err) !=
            SOOTHE_OK) {
        die(err.message);
    }
    free(own);
    if (w->n_text < 1) {
        die("the text has no tokens");
    }
}

/* Memory of this process by kind: of its own, of files mapped, and of files in memory, such as a calibrator's. */
static void print_memory(const char *what) {
    static const char *const names[] = {"VmRSS:", "RssAnon:", "RssFile:", "RssShmem:"};
    double                   mb[4]   = {0};
    char                     line[256];
    FILE                    *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f)) {
        for (int i = 0; i < 4; i++) {
            if (strncmp(line, names[i], strlen(names[i])) == 0) {
                mb[i] = strtod(line + strlen(names[i]), NULL) * 1024 / 1e6;
            }
        }
    }
    if (f) {
        fclose(f);
        printf("resident %-26s %8.1f MB (its own %.1f, of files %.1f, of files in memory %.1f)\n", what, mb[0], mb[1],
               mb[2], mb[3]);
    }
}

static double file_size(const char *path) {
    struct stat st;
    return path && stat(path, &st) == 0 ? (double)st.st_size / 1e6 : 0;
}

static int ascending(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

/* Median of fused/plain, and the quartiles. */
static void print_ratio(const char *what, double *plain, double *fused, int n, int32_t n_tokens) {
    double *ratio = soothe__calloc((size_t)n, sizeof *ratio);
    if (!ratio) {
        die("out of memory");
    }
    for (int i = 0; i < n; i++) {
        ratio[i] = fused[i] / plain[i];
    }
    qsort(ratio, (size_t)n, sizeof *ratio, ascending);
    qsort(plain, (size_t)n, sizeof *plain, ascending);
    qsort(fused, (size_t)n, sizeof *fused, ascending);
    printf("%-22s fused/plain %.4f (quartiles %.4f to %.4f)   plain %.3f ms/token, fused %.3f ms/token (medians)\n",
           what, ratio[n / 2], ratio[n / 4], ratio[3 * n / 4], 1e3 * plain[n / 2] / n_tokens,
           1e3 * fused[n / 2] / n_tokens);
    free(ratio);
}

/* t (2, n) plain and fused costs. */
static void print_ratios(const char *what, const struct cost *t, int n, int32_t n_tokens) {
    double *one = soothe__calloc(2 * (size_t)n, sizeof *one);
    char    name[64];
    if (!one) {
        die("out of memory");
    }
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 2 * n; i++) {
            one[i] = k ? t[i].processor : t[i].wall;
        }
        snprintf(name, sizeof name, "%s%s", what, k ? ", processor time" : "");
        print_ratio(name, one, one + n, n, n_tokens);
    }
    free(one);
}

static struct soothe_session *open_session(struct llama_model *target, const struct soothe_calibrator *cal,
                                           const struct work *w, int32_t n_threads) {
    struct soothe_error          err;
    struct soothe_session       *s;
    struct soothe_session_params p = soothe_session_params_default();
    p.context.n_ctx                = (uint32_t)(w->n_prompt + w->n_tokens * w->n_batch);
    p.context.n_batch              = (uint32_t)(w->n_prompt > w->n_batch ? w->n_prompt : w->n_batch);
    p.context.n_seq_max            = (uint32_t)w->n_batch;
    p.strength                     = 1.0f;
    if (n_threads > 0) {
        p.context.n_threads = p.context.n_threads_batch = n_threads;
    }
    if (soothe_session_new(&s, target, cal, &p, &err) != SOOTHE_OK) {
        die(err.message);
    }
    return s;
}

static enum ggml_type type_named(const char *name) {
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        if (ggml_type_name((enum ggml_type)i) && strcmp(ggml_type_name((enum ggml_type)i), name) == 0) {
            return (enum ggml_type)i;
        }
    }
    die("type= is no data type of ggml");
    return GGML_TYPE_COUNT;
}

struct choice {
    const char                     *model, *calibrator, *text; /* calibrator NULL: none */
    int32_t                         n_rounds, n_threads;
    struct soothe_calibrator_params params;
    struct work                     work;
};

static void take(struct choice *c, const char *word) {
    const struct {
        const char *name;
        int32_t    *value;
        long        lo, hi;
    } numbers[] = {{"rounds=", &c->n_rounds, 1, 1000},
                   {"tokens=", &c->work.n_tokens, 1, 100000},
                   {"prompt=", &c->work.n_prompt, 1, 100000},
                   {"batch=", &c->work.n_batch, 1, 256},
                   {"threads=", &c->n_threads, 0, 1024}};
    const struct {
        const char  *name;
        const char **value;
    } words[] = {{"alignment=", &c->params.alignment_path}, {"base=", &c->params.base_path}, {"text=", &c->text}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const size_t n = strlen(numbers[i].name);
        if (strncmp(word, numbers[i].name, n) == 0) {
            char      *end;
            const long value = strtol(word + n, &end, 10);
            if (*end || end == word + n || value < numbers[i].lo || value > numbers[i].hi) {
                die("a number is none, or out of its range");
            }
            *numbers[i].value = (int32_t)value;
            return;
        }
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const size_t n = strlen(words[i].name);
        if (strncmp(word, words[i].name, n) == 0) {
            *words[i].value = word + n;
            return;
        }
    }
    if (strncmp(word, "type=", 5) != 0) {
        die("an argument is none of rounds=, tokens=, prompt=, batch=, threads=, type=, alignment=, base=, text=");
    }
    c->params.block_type = type_named(word + 5);
}

/* t (4, n_rounds): tokens plain, tokens fused, prompt plain, prompt fused. Round -1 warms up. */
static void measure(struct cost *t, const struct choice *c, struct soothe_session *plain,
                    struct soothe_session *fused) {
    const int32_t n = c->n_rounds;
    for (int32_t i = -1; i < n; i++) {
        struct cost one[4];
        for (int k = 0; k < 2; k++) {
            const bool             second = (i & 1) == k;
            struct soothe_session *s      = second ? fused : plain;
            one[second ? 3 : 2]           = prompt(s, &c->work);
            one[second ? 1 : 0]           = step(s, &c->work);
        }
        for (int k = 0; i >= 0 && k < 4; k++) {
            t[k * n + i] = one[k];
        }
    }
}

static void print_shapes(const struct choice *c, const struct soothe_calibrator *cal) {
    const struct soothe_calibrator_info info         = soothe_calibrator_info(cal);
    const char *const                   matrices     = c->params.alignment_path ? c->params.alignment_path : NULL;
    const struct shape                  target_shape = shape_of(c->model, INT32_MAX, true, false);
    struct shape                        s            = {0};
    if (c->calibrator) {
        s = shape_of(c->calibrator, info.n_blocks, false, !matrices);
    }
    if (matrices) {
        const struct shape a = shape_of(matrices, 0, false, true);
        s.bytes += a.bytes;
        s.flops += a.flops;
    }
    printf("calibrator: %d blocks, A %s, B %s, %s; target width %d; %d sequences, %d tokens behind a prompt of %d\n",
           info.n_blocks, info.has_a ? "yes" : "no", info.has_b ? "yes" : "no",
           cal->by_text ? "follows the text" : "follows the tokens", info.d_tgt, c->work.n_batch, c->work.n_tokens,
           c->work.n_prompt);
    printf("a token reads %.1f MB of the target and %.1f MB of the calibrator's file's blocks and matrices (%.2f %%), "
           "%.3f and %.3f GFLOP (%.2f %%)\n",
           target_shape.bytes / 1e6, s.bytes / 1e6, 100 * s.bytes / target_shape.bytes, target_shape.flops / 1e9,
           s.flops / 1e9, 100 * s.flops / target_shape.flops);
}

int main(int argc, char **argv) {
    struct choice c = {.n_rounds = 15, .work = {.n_batch = 1, .n_tokens = 64, .n_prompt = 512}};
    if (argc < 3) {
        die("usage: bench_decode MODEL CALIBRATOR|- [rounds=15] [tokens=64] [prompt=512] [batch=1] [threads=N] "
            "[type=q4_0] [alignment=FILE] [base=FILE] [text=FILE]");
    }
    c.model      = argv[1];
    c.calibrator = strcmp(argv[2], "-") == 0 ? NULL : argv[2];
    c.params     = soothe_calibrator_params_default();
    for (int i = 3; i < argc; i++) {
        take(&c, argv[i]);
    }
    llama_log_set(quiet, NULL);
    struct soothe_error       err;
    struct soothe_calibrator *cal;
    struct llama_model       *target = llama_model_load_from_file(c.model, llama_model_default_params());
    if (!target) {
        die("cannot load the model");
    }
    read_text(&c.work, c.text, llama_model_get_vocab(target));
    struct soothe_session *plain = open_session(target, NULL, &c.work, c.n_threads);
    (void)prompt(plain, &c.work); /* so that every page of it has been touched */
    printf("files: the model %.1f MB, calibrator %.1f, alignment %.1f, base %.1f\n", file_size(c.model),
           file_size(c.calibrator), file_size(c.params.alignment_path), file_size(c.params.base_path));
    print_memory("with the plain session");
    if (soothe_calibrator_open(&cal, c.calibrator, c.model, &c.params, &err) != SOOTHE_OK) {
        die(err.message);
    }
    print_memory("with the calibrator, too");
    struct soothe_session *fused = open_session(target, cal, &c.work, c.n_threads);
    struct cost           *t     = soothe__calloc(4 * (size_t)c.n_rounds, sizeof *t);
    if (!t) {
        die("out of memory");
    }
    measure(t, &c, plain, fused);
    print_memory("with both sessions");
    print_shapes(&c, cal);
    const int32_t n = c.n_rounds;
    print_ratios("token", t, n, c.work.n_tokens * c.work.n_batch);
    print_ratios("prompt", t + 2 * n, n, c.work.n_prompt);
    const struct soothe__coupling_counts *counts = soothe__session_coupling(fused);
    if (counts) {
        printf("the calibrator decoded %.3f of its tokens per token of the model, %.3f taken back\n",
               (double)counts->n_calibrator_tokens / (double)counts->n_target_tokens,
               (double)counts->n_rolled_back / (double)counts->n_target_tokens);
    }
    free(t);
    free(c.work.text);
    soothe_session_free(plain);
    soothe_session_free(fused);
    soothe_calibrator_free(cal);
    llama_model_free(target);
    return 0;
}
