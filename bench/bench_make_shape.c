/* SPDX-License-Identifier: Apache-2.0
 * Writes a Llama-shaped GGUF of any size with random Q4_0 weights and the vocabulary of another
 * file: what a token costs does not depend on the values.
 *
 *     bench_make_shape VOCABULARY.gguf OUT.gguf [D BLOCKS N_FF N_HEAD]      default: a 7B's shape
 *
 * and with CALIBRATOR.gguf OUT2.gguf behind the shape, a calibrator with a random A for it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fusion/calibrator_file.h"

enum { CHUNK_BLOCKS = 1 << 16, Q4_0_BYTES = 18, N_SHAPES = 16 };

struct shape {
    int64_t d, n_blocks, n_ff, n_head;
};

static void die(const char *message) {
    fprintf(stderr, "bench_make_shape: %s\n", message);
    exit(1);
}

static void add(struct gguf_context *meta, struct ggml_context *shapes, const char *name, int64_t n_in, int64_t n_out) {
    struct ggml_tensor *t = n_out > 1 ? ggml_new_tensor_2d(shapes, GGML_TYPE_Q4_0, n_in, n_out)
                                      : ggml_new_tensor_1d(shapes, GGML_TYPE_F32, n_in);
    ggml_set_name(t, name);
    gguf_add_tensor(meta, t);
}

static void add_tensors(struct gguf_context *meta, struct ggml_context *shapes, const struct shape *s,
                        int64_t n_vocab) {
    const struct {
        const char *name;
        int64_t     n_in, n_out;
    } block[] = {{"attn_norm", s->d, 1},      {"attn_q", s->d, s->d},      {"attn_k", s->d, s->d},
                 {"attn_v", s->d, s->d},      {"attn_output", s->d, s->d}, {"ffn_norm", s->d, 1},
                 {"ffn_gate", s->d, s->n_ff}, {"ffn_up", s->d, s->n_ff},   {"ffn_down", s->n_ff, s->d}};
    char name[64];
    add(meta, shapes, "token_embd.weight", s->d, n_vocab);
    add(meta, shapes, "output.weight", s->d, n_vocab);
    add(meta, shapes, "output_norm.weight", s->d, 1);
    for (int64_t i = 0; i < s->n_blocks; i++) {
        for (size_t k = 0; k < sizeof block / sizeof *block; k++) {
            snprintf(name, sizeof name, "blk.%d.%s.weight", (int)i, block[k].name);
            add(meta, shapes, name, block[k].n_in, block[k].n_out);
        }
    }
}

static void set_shape(struct gguf_context *meta, const struct soothe__gguf *vocabulary, const struct shape *s) {
    const int64_t n = gguf_get_n_kv(vocabulary->meta);
    gguf_set_kv(meta, vocabulary->meta);
    for (int64_t i = 0; i < n; i++) {
        const char *key = gguf_get_key(vocabulary->meta, i);
        if (strncmp(key, "tokenizer.", 10) != 0) {
            gguf_remove_key(meta, key);
        }
    }
    gguf_set_val_str(meta, "general.architecture", "llama");
    gguf_set_val_str(meta, "general.name", "random weights");
    gguf_set_val_u32(meta, "llama.block_count", (uint32_t)s->n_blocks);
    gguf_set_val_u32(meta, "llama.context_length", 4096);
    gguf_set_val_u32(meta, "llama.embedding_length", (uint32_t)s->d);
    gguf_set_val_u32(meta, "llama.feed_forward_length", (uint32_t)s->n_ff);
    gguf_set_val_u32(meta, "llama.attention.head_count", (uint32_t)s->n_head);
    gguf_set_val_f32(meta, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
}

/* One chunk of random Q4_0 blocks with a small scale, repeated; norms are ones. */
static void write_data(const struct gguf_context *meta, FILE *out) {
    struct soothe__rng rng   = soothe__rng_seed(1, 1);
    uint8_t           *chunk = soothe__calloc(CHUNK_BLOCKS, Q4_0_BYTES);
    const float        one   = 1.0f;
    if (!chunk) {
        die("out of memory");
    }
    const ggml_fp16_t scale = ggml_fp32_to_fp16(0.002f);
    for (size_t i = 0; i < CHUNK_BLOCKS; i++) {
        memcpy(chunk + i * Q4_0_BYTES, &scale, sizeof scale);
        for (size_t k = sizeof scale; k < Q4_0_BYTES; k++) {
            chunk[i * Q4_0_BYTES + k] = (uint8_t)soothe__rng_u32(&rng);
        }
    }
    for (int64_t i = 0; i < gguf_get_n_tensors(meta); i++) {
        const size_t size = gguf_get_tensor_size(meta, i);
        size_t       done = 0;
        while (done < size) {
            const size_t step = gguf_get_tensor_type(meta, i) == GGML_TYPE_F32 ? sizeof one : CHUNK_BLOCKS * Q4_0_BYTES;
            const size_t n    = size - done < step ? size - done : step;
            if (fwrite(step == sizeof one ? (const void *)&one : chunk, 1, n, out) != n) {
                die("cannot write (disk full?)");
            }
            done += n;
        }
        for (; done % gguf_get_alignment(meta) != 0; done++) {
            fputc(0, out);
        }
    }
    free(chunk);
}

static void write_model(const char *vocabulary_path, const char *path, const struct shape *s) {
    struct soothe__gguf vocabulary;
    struct soothe_error err;
    if (soothe__gguf_open(&vocabulary, vocabulary_path, &err) != SOOTHE_OK) {
        die(err.message);
    }
    struct gguf_context *meta   = gguf_init_empty();
    struct ggml_context *shapes = ggml_init((struct ggml_init_params){
        .mem_size = ggml_tensor_overhead() * (size_t)(s->n_blocks + 1) * N_SHAPES, .no_alloc = true});
    FILE                *out    = fopen(path, "wb");
    if (!meta || !shapes || !out) {
        die("cannot open the output");
    }
    set_shape(meta, &vocabulary, s);
    add_tensors(meta, shapes, s,
                (int64_t)gguf_get_arr_n(vocabulary.meta, gguf_find_key(vocabulary.meta, "tokenizer.ggml.tokens")));
    const size_t size   = gguf_get_meta_size(meta);
    void        *header = soothe__calloc(size, 1);
    gguf_get_meta_data(meta, header);
    if (fwrite(header, 1, size, out) != size) {
        die("cannot write (disk full?)");
    }
    write_data(meta, out);
    if (fclose(out) != 0) {
        die("cannot write (disk full?)");
    }
    free(header);
    ggml_free(shapes);
    gguf_free(meta);
    soothe__gguf_close(&vocabulary);
}

static void write_calibrator(const char *source, const char *target, const char *out, int64_t d_tgt) {
    struct soothe__gguf g;
    struct soothe_error err;
    uint32_t            d_cal = 0;
    if (soothe__gguf_open(&g, source, &err) != SOOTHE_OK || !soothe__gguf_find_u32(&g, SOOTHE__KEY_D_CAL, &d_cal)) {
        die("cannot read the calibrator");
    }
    soothe__gguf_close(&g);
    struct soothe__rng rng = soothe__rng_seed(2, 1);
    float             *a   = soothe__calloc((size_t)d_cal * (size_t)d_tgt, sizeof *a);
    for (size_t i = 0; a && i < (size_t)d_cal * (size_t)d_tgt; i++) {
        a[i] = (float)(0.01 * soothe__rng_normal(&rng));
    }
    const struct soothe__calibrator_spec spec = {.name        = "random A",
                                                 .source_path = source,
                                                 .target_path = target,
                                                 .form        = SOOTHE_FORM_RESIDUAL,
                                                 .strength    = 1.0f,
                                                 .d_cal       = (int32_t)d_cal,
                                                 .d_tgt       = (int32_t)d_tgt,
                                                 .a           = a,
                                                 .block_type  = GGML_TYPE_F16,
                                                 .matrix_type = GGML_TYPE_F16};
    if (!a || soothe__calibrator_write(out, &spec, &err) != SOOTHE_OK) {
        die(a ? err.message : "out of memory");
    }
    free(a);
}

int main(int argc, char **argv) {
    struct shape s = {4096, 32, 11008, 32};
    if (argc < 3) {
        die("usage: bench_make_shape VOCABULARY.gguf OUT.gguf [D BLOCKS N_FF N_HEAD [CALIBRATOR.gguf OUT2.gguf]]");
    }
    if (argc >= 7) {
        s = (struct shape){atoll(argv[3]), atoll(argv[4]), atoll(argv[5]), atoll(argv[6])};
    }
    if (s.d < 32 || s.d % 32 || s.n_ff < 32 || s.n_ff % 32 || s.n_blocks < 1 || s.n_head < 1 || s.d % s.n_head) {
        die("D and N_FF must be multiples of 32, D of N_HEAD");
    }
    write_model(argv[1], argv[2], &s);
    if (argc >= 9) {
        write_calibrator(argv[7], argv[2], argv[8], s.d);
    }
    return 0;
}
