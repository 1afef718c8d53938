// Attention and rotary embedding.
#include "internal.hpp"

#include <algorithm>
#include <cstring>

namespace ttnn {

using namespace tt::tt_metal;
using namespace tt::tt_metal::emulation;

namespace {

float half(float x) { return static_cast<float>(bfloat16(x)); }

/// The exponential of a score: exponent and mantissa are the integer and the fraction of one product, in steps of 2^-8.
float fast_exp(float x) {
    const float bits = std::max(x, -88.5f) * 369.329925f + 32500.818359375f;
    const uint32_t word = static_cast<uint32_t>(std::max(bits, 0.0f)) << 15;
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
}

/// One row of attention over blocks of keys, as the device's kernel goes through them. Scores, statistics and sums
/// between blocks are bf16, whatever the registers hold.
class OnlineSoftmax {
public:
    OnlineSoftmax(std::size_t width, float scale, bool f32, bool fast)
        : scale_(scale), f32_(f32), fast_(fast), sum_of_rows_(width) {}

    void block(const float* query, const float* keys, const float* held, const float* mask, std::size_t count) {
        const std::size_t width = sum_of_rows_.size();
        std::vector<float> scores(count), rows(width);
        float most = most_;
        for (std::size_t j = 0; j < count; j++) {
            float score = 0;
            for (std::size_t d = 0; d < width; d++) {
                score += query[d] * keys[j * width + d];
                score = f32_ || d % TILE != TILE - 1 ? score : half(score);
            }
            // The mask is added before the scale is applied: large and negative either way.
            scores[j] = half(half(score) + (mask ? mask[j] : 0));
            most = std::max(most, scores[j]);
        }
        float lanes[TILE] = {};
        for (std::size_t j = 0; j < count; j++) {
            const float p = half(fast_exp((scores[j] - most) * scale_));
            lanes[j % TILE] = half(lanes[j % TILE] + p);
            for (std::size_t d = 0; d < width; d++) {
                rows[d] += p * held[j * width + d];
                rows[d] = f32_ || j % TILE != TILE - 1 ? rows[d] : half(rows[d]);
            }
        }
        float sum = 0;
        for (float lane : lanes) {
            sum += lane;
        }
        float fade = 0;
        if (!first_) {
            fade = fast_ ? fast_exp((most_ - most) * scale_) : std::exp((most_ - most) * scale_);
            // Seen on Tenstorrent's simulator of both architectures: with sums in f32, blocks before the first key that a
            // row sees leave their share in it.
            fade = f32_ && most_ < HIDDEN && most > HIDDEN ? 1 : half(fade);
        }
        for (std::size_t d = 0; d < width; d++) {
            sum_of_rows_[d] = half(half(sum_of_rows_[d] * fade) + half(rows[d]));
        }
        sum_ = half(half(sum_ * fade) + half(sum));
        most_ = most;
        first_ = false;
    }

    void finish(float* out) const {
        const float inverse = half(1 / sum_);
        for (std::size_t d = 0; d < sum_of_rows_.size(); d++) {
            out[d] = sum_of_rows_[d] * inverse;
        }
    }

private:
    /// Scores below are those of keys that a mask hides.
    static constexpr float HIDDEN = -1e8f;
    float scale_;
    bool f32_, fast_, first_ = true;
    float most_ = -std::numeric_limits<float>::infinity(), sum_ = 0;
    std::vector<float> sum_of_rows_;
};

}  // namespace

namespace transformer {

Tensor scaled_dot_product_attention(
    const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask, bool is_causal,
    std::optional<float> scale, std::optional<uint32_t>, const Memory& memory,
    std::optional<operations::transformer::SDPAProgramConfig> program,
    std::optional<DeviceComputeKernelConfig> compute) {
    auto* device = tiled("SDPA", {&q, &k, &v});
    const auto qs = q.logical_shape(), ks = k.logical_shape(), vs = v.logical_shape();
    for (const auto* tensor : {&q, &k, &v}) {
        DEMAND(
            tensor->dtype() == DataType::BFLOAT16 || tensor->dtype() == DataType::BFLOAT8_B ||
                tensor->dtype() == DataType::BFLOAT4_B,
            "Data type of input tensor must be BFLOAT16, BFLOAT8_B, or BFLOAT4_B");
        DEMAND(
            tensor->logical_shape()[3] == tensor->padded_shape()[3],
            "Padding is not supported on the head_dim dimension");
    }
    LIMIT(!is_causal, "the emulation has no causal attention");
    DEMAND(ks == vs, "K and V shapes must match");
    DEMAND(qs[0] == ks[0] && qs[3] == ks[3], "Q and K batch and head_dim must match: ", to_string(qs), " and ", to_string(ks));
    DEMAND(qs[1] >= ks[1] && qs[1] % ks[1] == 0, "Q num_heads must be >= K num_heads and divisible by K num_heads");
    const std::size_t q_chunk = program ? program->q_chunk_size : 32, k_chunk = program ? program->k_chunk_size : 32;
    DEMAND(q_chunk % TILE == 0 && k_chunk % TILE == 0 && q_chunk > 0 && k_chunk > 0, "chunk sizes must be whole tiles");
    for (const auto chunk : {q_chunk / TILE, k_chunk / TILE}) {
        // Others are refused by some of TTNN's kernels, and worked through in part by the rest.
        DEMAND((chunk & (chunk - 1)) == 0, "granularity must be a power of 2. Got ", chunk);
    }
    if (program) {
        const auto have = device->compute_with_storage_grid_size(), want = program->compute_with_storage_grid_size;
        DEMAND(
            want.x <= have.x && want.y <= have.y && want.x * want.y > 0, "Provided grid must not exceed device grid: ",
            want.x, "x", want.y, " of ", have.x, "x", have.y);
    }
    const std::size_t width = qs[3];
    // Circular buffers of one core: q, double-buffered k, v and mask, scores, two outputs.
    const std::size_t buffers = 2 * (q_chunk * width * 3 + 4 * k_chunk * width + 3 * q_chunk * k_chunk);
    DEMAND(
        buffers <= device->l1_size_per_core(), "Statically allocated circular buffers grow to ", buffers,
        " B which is beyond max L1 size of ", device->l1_size_per_core(), " B");
    std::vector<Tensor> inputs{q, k, v};
    std::shared_ptr<Data> m;
    std::size_t mask_matrix = 0, mask_batches = 1;
    if (mask) {
        tiled("SDPA", {&*mask});
        const auto ms = mask->logical_shape();
        DEMAND(
            mask->dtype() != DataType::FLOAT32 && mask->dtype() != DataType::UINT32,
            "When mask is provided to SDPA, it must be in BF16, BFP8, or BFP4 dataformat");
        DEMAND(
            mask->memory_config().buffer_type() == BufferType::DRAM, "When mask is provided to SDPA, it must be in DRAM");
        DEMAND(ms[0] == 1 || ms[0] == qs[0], "Mask batch dim must either be 1 or match Q batch dimension");
        LIMIT(ms[1] == 1, "the emulation's masks are the same for all heads");
        DEMAND(ms[2] == qs[2], "Mask sequence length must match Q sequence length: ", ms[2], " and ", qs[2]);
        DEMAND(ms[3] == ks[2], "Mask sequence length must match K sequence length: ", ms[3], " and ", ks[2]);
        DEMAND(
            qs[2] % q_chunk == 0,
            "If mask is provided, Q sequence length must be divisible by q_chunk_size. Got q_seq_len: ", qs[2],
            ", q_chunk_size: ", q_chunk);
        DEMAND(
            ks[2] % k_chunk == 0,
            "If mask is provided, K sequence length must be divisible by k_chunk_size. Got k_seq_len: ", ks[2],
            ", k_chunk_size: ", k_chunk);
        m = Access::data(*mask, "SDPA");
        inputs.push_back(*mask);
        mask_matrix = Tiles(*mask).matrix();
        mask_batches = ms[0];
    }
    auto out = create_device_tensor(tile_spec(qs, q.dtype(), memory), device);
    auto qd = Access::data(q, "SDPA"), kd = Access::data(k, "SDPA"), vd = Access::data(v, "SDPA");
    const Tiles tq(q), tk(k);
    const float factor = scale.value_or(1 / std::sqrt(static_cast<float>(width)));
    const bool f32 = config(compute ? Compute(*compute) : std::nullopt).fp32_dest_acc_en;
    const bool fast = program && program->exp_approx_mode.value_or(true);
    const std::string how = std::to_string(q_chunk) + "," + std::to_string(k_chunk) + (f32 ? "f32" : "f16") +
                            (fast ? "fast" : "");
    dispatch("SDPA", key(inputs) + how, inputs, out, [=] {
        std::vector<float> values(qd->values.size());
        for (std::size_t head = 0; head < tq.stack; head++) {
            const std::size_t batch = head / qs[1], shared = batch * ks[1] + head % qs[1] * ks[1] / qs[1];
            const float* keys = &kd->values[shared * tk.matrix()];
            const float* held = &vd->values[shared * tk.matrix()];
            for (std::size_t r = 0; r < tq.padded_rows; r++) {
                const std::size_t row = (mask_batches == 1 ? 0 : batch) * mask_matrix + r * tk.padded_rows;
                OnlineSoftmax softmax(width, factor, f32, fast);
                for (std::size_t first = 0; first < tk.rows; first += k_chunk) {
                    softmax.block(
                        &qd->values[(head * tq.padded_rows + r) * width], keys + first * width, held + first * width,
                        m ? &m->values[row + first] : nullptr, std::min(k_chunk, tk.rows - first));
                }
                softmax.finish(&values[(head * tq.padded_rows + r) * width]);
            }
        }
        return values;
    });
    return out;
}

}  // namespace transformer

namespace experimental {

Tensor rotary_embedding(
    const Tensor& x, const Tensor& cos, const Tensor& sin, std::optional<uint32_t> token_index, const Memory& memory,
    Compute) {
    auto* device = tiled("rotary embedding", {&x, &cos, &sin});
    const auto shape = x.padded_shape(), table = cos.padded_shape();
    DEMAND(shape[-1] % (TILE * 2) == 0, "Input X dimension (", shape[-1], ") must be divisible by 64 for tiling.");
    LIMIT(!token_index, "the emulation rotates whole sequences");
    DEMAND(table == sin.padded_shape() && cos.dtype() == sin.dtype(), "Cos and Sin dims must match");
    DEMAND(table[0] == 1 && table[1] == 1 && table[-1] == shape[-1], "Cosine cache dimensions must match input dimensions.");
    DEMAND(table[-2] >= shape[-2], "Cosine cache dimensions must cover the sequence length.");
    // As on the device, rows of padding are treated like any other.
    auto out = create_device_tensor(tile_spec(shape, x.dtype(), memory), device);
    auto data = Access::data(x, "rotary embedding"), c = Access::data(cos, "rotary embedding"), s = Access::data(sin, "rotary embedding");
    const Tiles t(x);
    dispatch("rotary_embedding", key({x, cos}), {x, cos, sin}, out, [=] {
        std::vector<float> values(data->values.size());
        const std::size_t half = t.padded_cols / 2;
        for (std::size_t r = 0; r < t.stack * t.padded_rows; r++) {
            const std::size_t angle = r % t.padded_rows * t.padded_cols;
            const float* row = &data->values[r * t.padded_cols];
            for (std::size_t d = 0; d < t.padded_cols; d++) {
                const float other = d < half ? -row[d + half] : row[d - half];
                values[r * t.padded_cols + d] = row[d] * c->values[angle + d] + other * s->values[angle + d];
            }
        }
        return values;
    });
    return out;
}

}  // namespace experimental
}  // namespace ttnn
