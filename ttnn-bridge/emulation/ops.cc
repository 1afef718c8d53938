// Arithmetic: elementwise operations, products, norms.
#include "internal.hpp"

#include <algorithm>

namespace tt::tt_metal::emulation {

distributed::MeshDevice* tiled(const char* op, std::initializer_list<const Tensor*> operands) {
    distributed::MeshDevice* device = nullptr;
    for (const Tensor* tensor : operands) {
        Access::data(*tensor, op);
        DEMAND(tensor->layout() == Layout::TILE, "Inputs to ", op, " must be tilized");
        DEMAND(!device || device == tensor->device(), "Operands to ", op, " need to be on the same device!");
        device = tensor->device();
    }
    return device;
}

Tensor output_of(
    const char* op, distributed::MeshDevice* device, const TensorSpec& spec, const std::optional<Tensor>& given) {
    if (!given) {
        return create_device_tensor(spec, device);
    }
    DEMAND(
        given->logical_shape() == spec.logical_shape() && given->dtype() == spec.data_type() &&
            given->layout() == spec.layout(),
        op, ": the output tensor is ", to_string(given->logical_shape()), ", the result ",
        to_string(spec.logical_shape()), " or of another dtype");
    return *given;
}

TensorSpec tile_spec(Shape shape, DataType dtype, const std::optional<MemoryConfig>& memory) {
    return TensorSpec(
        std::move(shape), TensorLayout(dtype, PageConfig(Layout::TILE), memory.value_or(MemoryConfig{})));
}

std::string key(const std::vector<Tensor>& tensors) {
    std::string text;
    for (const auto& tensor : tensors) {
        text += to_string(tensor.logical_shape()) + std::to_string(static_cast<int>(tensor.dtype()));
    }
    return text;
}

ttnn::WormholeComputeKernelConfig config(const std::optional<const ttnn::DeviceComputeKernelConfig>& compute) {
    const auto* wormhole = compute ? std::get_if<ttnn::WormholeComputeKernelConfig>(&*compute) : nullptr;
    return wormhole ? *wormhole : ttnn::WormholeComputeKernelConfig{};
}

}  // namespace tt::tt_metal::emulation

namespace ttnn {

using namespace tt::tt_metal;
using namespace tt::tt_metal::emulation;

namespace {

using Unary = operations::unary::EltwiseUnaryWithParam;

float gelu_of(float x, bool approximate) {
    return approximate ? 0.5f * x * (1 + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x)))
                       : 0.5f * x * (1 + std::erf(x * 0.70710678f));
}

float activate(const Unary& unary, float x) {
    switch (unary.op_type) {
        case UnaryOpType::GELU: return gelu_of(x, unary.param != 0);
        case UnaryOpType::MUL_UNARY_SFPU: return x * unary.param;
        default: return x / (1 + std::exp(-x));
    }
}

void activate(const std::vector<Unary>& activations, float& x) {
    for (const auto& unary : activations) {
        x = activate(unary, x);
    }
}

template <typename Op>
Tensor binary(
    const char* op, const Tensor& a, const Tensor& b, std::optional<const DataType> dtype,
    const Memory& memory, const std::optional<Tensor>& output, Activations post, Activations lhs, Activations rhs,
    Op combine) {
    auto* device = tiled(op, {&a, &b});
    const auto as = a.logical_shape(), bs = b.logical_shape();
    LIMIT(as.rank() == 4 && bs.rank() == 4, op, ": the emulation takes tensors of rank 4");
    for (int dim = 0; dim < 4; dim++) {
        DEMAND(
            as[dim] == bs[dim] || bs[dim] == 1, "Broadcasting rule violation: ", to_string(as), " and ",
            to_string(bs));
    }
    const bool wide = a.dtype() == DataType::FLOAT32 && b.dtype() == DataType::FLOAT32;
    auto out = output_of(op, device, tile_spec(as, output ? output->dtype() : dtype.value_or(a.dtype()), memory.value_or(a.memory_config())), output);
    auto x = Access::data(a, op), y = Access::data(b, op);
    const Tiles ta(a), tb(b);
    const std::vector<Unary> after(post.begin(), post.end()), left(lhs.begin(), lhs.end()), right(rhs.begin(), rhs.end());
    const auto bpad = b.padded_shape();
    dispatch(op, key({a, b, out}), {a, b}, out, [=] {
        std::vector<float> values(x->values.size());
        std::size_t i = 0;
        for (uint32_t n = 0; n < as[0]; n++) {
            for (uint32_t c = 0; c < as[1]; c++) {
                const std::size_t matrix = (bs[0] == 1 ? 0 : n) * bs[1] + (bs[1] == 1 ? 0 : c);
                for (std::size_t r = 0; r < ta.padded_rows; r++) {
                    const float* row = &y->values[matrix * tb.matrix() + (bs[2] == 1 ? 0 : r) * bpad[-1]];
                    for (std::size_t k = 0; k < ta.padded_cols; k++, i++) {
                        float p = x->values[i], q = row[bs[3] == 1 ? 0 : k];
                        activate(left, p);
                        activate(right, q);
                        // Mixed or 16-bit operands are computed in registers of 16 bits' precision.
                        p = wide ? p : static_cast<float>(bfloat16(p));
                        q = wide ? q : static_cast<float>(bfloat16(q));
                        values[i] = combine(p, q);
                        activate(after, values[i]);
                    }
                }
            }
        }
        return values;
    });
    return out;
}

template <typename Op>
Tensor map(
    const char* op, const Tensor& a, DataType dtype, const std::optional<Tensor>& output, float scalar, Op op_of) {
    auto* device = tiled(op, {&a});
    auto out = output_of(op, device, tile_spec(a.logical_shape(), output ? output->dtype() : dtype, a.memory_config()), output);
    auto x = Access::data(a, op);
    dispatch(op, key({a, out}), {a}, out, [=] {
        auto values = x->values;
        for (float& value : values) {
            value = op_of(value, scalar);
        }
        return values;
    });
    return out;
}

/// Keeps `bits` explicit bits of the mantissa.
float keep(float x, int bits) {
    if (!std::isfinite(x) || x == 0) {
        return x;
    }
    int exponent;
    const float mantissa = std::frexp(x, &exponent);
    return std::ldexp(std::trunc(std::ldexp(mantissa, bits + 1)), exponent - bits - 1);
}

/// A factor as the multipliers see it: weights (SrcA) and activations (SrcB) by fidelity phases.
std::vector<float> factor(const std::vector<float>& values, MathFidelity fidelity, bool weights) {
    // Registers hold 10 bits; a multiplier takes 4 bits of SrcA and 6 of SrcB in a phase.
    const bool low = fidelity == MathFidelity::LoFi || (fidelity == MathFidelity::HiFi2 && !weights);
    const int bits = !low ? 10 : weights ? 4 : 6;
    std::vector<float> out(values.size());
    std::transform(values.begin(), values.end(), out.begin(), [=](float x) { return keep(x, bits); });
    return out;
}

/// `out += x·w` of `[rows, inner]` and `[inner, cols]`, sums rounded tile by tile without f32
/// accumulation.
void product(
    const float* x, const float* w, float* out, std::size_t rows, std::size_t inner, std::size_t cols, bool f32) {
    for (std::size_t r = 0; r < rows; r++) {
        float* sum = out + r * cols;
        for (std::size_t k = 0; k < inner; k++) {
            const float factor = x[r * inner + k];
            const float* row = w + k * cols;
            for (std::size_t c = 0; c < cols; c++) {
                sum[c] += factor * row[c];
            }
            if (!f32 && k % TILE == TILE - 1) {
                for (std::size_t c = 0; c < cols; c++) {
                    sum[c] = static_cast<float>(bfloat16(sum[c]));
                }
            }
        }
    }
}

/// Checks a product's blocks as TTNN does, and returns the activation that they apply.
std::optional<Unary> blocks_of(
    const operations::matmul::MatmulProgramConfig& program, const Tensor& x, const Tensor& weight, const Tensor& out,
    const WormholeComputeKernelConfig& setup, bool bias, distributed::MeshDevice* device, std::string& text) {
    using operations::matmul::MatmulMultiCoreProgramConfig;
    using operations::matmul::MatmulMultiCoreReuseMultiCast1DProgramConfig;
    if (std::holds_alternative<MatmulMultiCoreProgramConfig>(program)) {
        return std::nullopt;
    }
    const auto check = [&](const auto& p, bool both) {
        const auto have = device->compute_with_storage_grid_size(), grid = p.compute_with_storage_grid_size;
        DEMAND(
            grid.x * grid.y > 0 && grid.x <= have.x && grid.y <= have.y, "grid of ", grid.x, "x", grid.y,
            " on a device of ", have.x, "x", have.y);
        LIMIT(p.fuse_batch, "the emulation's products take all batches at once");
        const Tiles tx(x), tw(weight);
        const std::size_t rows = tx.stack * tx.padded_rows / TILE, inner = tx.padded_cols / TILE, cols = tw.padded_cols / TILE;
        DEMAND(
            p.in0_block_w > 0 && inner % p.in0_block_w == 0, "Kt must be divisible by in0_block_w, Kt: ", inner,
            " in0_block_w: ", p.in0_block_w);
        DEMAND(
            p.out_block_h > 0 && p.per_core_M % p.out_block_h == 0, "per_core_M must be divisible by out_block_h: ",
            p.per_core_M, " and ", p.out_block_h);
        DEMAND(
            p.out_block_w > 0 && p.per_core_N % p.out_block_w == 0, "per_core_N must be divisible by out_block_w: ",
            p.per_core_N, " and ", p.out_block_w);
        DEMAND(
            p.out_subblock_h > 0 && p.out_block_h % p.out_subblock_h == 0,
            "out_block_h must be divisible by out_subblock_h: ", p.out_block_h, " and ", p.out_subblock_h);
        DEMAND(
            p.out_subblock_w > 0 && p.out_block_w % p.out_subblock_w == 0,
            "out_block_w must be divisible by out_subblock_w: ", p.out_block_w, " and ", p.out_subblock_w);
        DEMAND(
            p.out_subblock_h * p.out_subblock_w <= (setup.fp32_dest_acc_en ? 4u : 8u),
            "out_subblock_w times out_subblock_h needs to be at most ", setup.fp32_dest_acc_en ? 4 : 8,
            " to fit in hardware");
        const std::size_t lines = (rows + p.per_core_M - 1) / p.per_core_M;
        const std::size_t columns = (cols + p.per_core_N - 1) / p.per_core_N;
        if (both) {
            DEMAND(columns <= grid.x && lines <= grid.y, columns, "x", lines, " blocks on ", grid.x, "x", grid.y, " cores");
        } else {
            DEMAND(lines == 1 && columns <= grid.x * grid.y, lines * columns, " blocks on ", grid.x * grid.y, " cores");
        }
        const auto tile = [](DataType dtype) -> std::size_t {
            return dtype == DataType::FLOAT32 ? 4096 : dtype == DataType::BFLOAT8_B ? 1088 : dtype == DataType::BFLOAT4_B ? 576 : 2048;
        };
        const std::size_t block = p.out_block_h * p.out_block_w;
        const std::size_t bytes = 2 * p.in0_block_w * (p.out_block_h * tile(x.dtype()) + p.out_block_w * tile(weight.dtype())) +
                                  block * tile(out.dtype()) + block * (setup.fp32_dest_acc_en ? 4096 : 2048) +
                                  (bias ? p.out_block_w * 4096 : 0);
        DEMAND(
            bytes <= device->l1_size_per_core(), "Statically allocated circular buffers grow to ", bytes,
            " B which is beyond max L1 size of ", device->l1_size_per_core(), " B");
        for (const std::size_t n : {grid.x, grid.y, p.in0_block_w, p.out_block_h, p.out_block_w, p.per_core_M, p.per_core_N}) {
            text += std::to_string(n) + ",";
        }
        return p.fused_activation;
    };
    if (const auto* columns = std::get_if<MatmulMultiCoreReuseMultiCast1DProgramConfig>(&program)) {
        LIMIT(columns->mcast_in0, "the emulation's products of few rows share out the columns");
        return check(*columns, false);
    }
    return check(std::get<operations::matmul::MatmulMultiCoreReuseMultiCastProgramConfig>(program), true);
}

Tensor norm(
    const char* op, bool center, const Tensor& x, float epsilon, const std::optional<const Tensor>& weight,
    const std::optional<const Tensor>& bias, const Memory& memory, const Compute& compute) {
    auto* device = tiled(op, {&x});
    DEMAND(
        x.dtype() == DataType::FLOAT32 || x.dtype() == DataType::BFLOAT16 || x.dtype() == DataType::BFLOAT8_B,
        "Input tensor must be FLOAT32, BFLOAT16, or BFLOAT8_B");
    std::vector<Tensor> inputs{x};
    std::shared_ptr<Data> w, b;
    for (const auto* given : {&weight, &bias}) {
        if (*given) {
            const auto padded = (*given)->padded_shape();
            LIMIT((*given)->layout() == Layout::TILE, "the emulation takes gamma and beta in tiles");
            DEMAND(padded[-1] == x.padded_shape()[-1], x.padded_shape()[-1], " != ", padded[-1]);
            DEMAND(padded[-2] == TILE, "Gamma tensor height must be TILE_HEIGHT (32), got: ", padded[-2]);
            (given == &weight ? w : b) = Access::data(**given, op);
            inputs.push_back(**given);
        }
    }
    // Rows are normalised in place: their dtype is the result's.
    auto out = create_device_tensor(tile_spec(x.logical_shape(), x.dtype(), memory.value_or(x.memory_config())), device);
    auto data = Access::data(x, op);
    const Tiles t(x);
    const bool f32 = config(compute).fp32_dest_acc_en;
    dispatch(op, key(inputs) + (f32 ? "f32" : "f16"), inputs, out, [=] {
        auto values = data->values;
        // Sums grow tile by tile in registers of 32 or 16 bits.
        auto mean_of = [&](const float* row, auto term) {
            float sum = 0;
            for (std::size_t c = 0; c < t.cols; c++) {
                sum += term(row[c]) / static_cast<float>(t.cols);
                sum = f32 || (c % TILE != TILE - 1 && c + 1 != t.cols) ? sum : static_cast<float>(bfloat16(sum));
            }
            return sum;
        };
        for (std::size_t r = 0; r < t.stack * t.padded_rows; r++) {
            float* row = &values[r * t.padded_cols];
            const float mean = center ? mean_of(row, [](float x) { return x; }) : 0;
            const float square = mean_of(row, [=](float x) { return (x - mean) * (x - mean); });
            float inverse = 1 / std::sqrt(square + epsilon);
            inverse = f32 ? inverse : static_cast<float>(bfloat16(inverse));
            for (std::size_t c = 0; c < t.padded_cols; c++) {
                row[c] = (row[c] - mean) * inverse * (w ? w->values[c] : 1) + (b ? b->values[c] : 0);
            }
        }
        return values;
    });
    return out;
}

}  // namespace

Tensor add(
    const Tensor& a, const Tensor& b, const std::optional<const DataType>& dtype, const Memory& memory,
    const std::optional<Tensor>& output, Activations post, Activations lhs, Activations rhs) {
    return binary("add", a, b, dtype, memory, output, post, lhs, rhs, [](float x, float y) { return x + y; });
}
Tensor add(
    const Tensor& a, float b, const std::optional<const DataType>& dtype, const Memory&,
    const std::optional<Tensor>& output) {
    return map("add", a, dtype.value_or(a.dtype()), output, b, [](float x, float y) { return x + y; });
}
Tensor subtract(
    const Tensor& a, const Tensor& b, const std::optional<const DataType>& dtype, const Memory& memory,
    const std::optional<Tensor>& output, Activations post, Activations lhs, Activations rhs) {
    return binary("subtract", a, b, dtype, memory, output, post, lhs, rhs, [](float x, float y) { return x - y; });
}
Tensor multiply(
    const Tensor& a, const Tensor& b, const std::optional<const DataType>& dtype, const Memory& memory,
    const std::optional<Tensor>& output, Activations post, Activations lhs, Activations rhs) {
    return binary("multiply", a, b, dtype, memory, output, post, lhs, rhs, [](float x, float y) { return x * y; });
}
Tensor multiply(
    const Tensor& a, float b, const std::optional<const DataType>& dtype, const Memory&,
    const std::optional<Tensor>& output) {
    return map("multiply", a, dtype.value_or(a.dtype()), output, b, [](float x, float y) { return x * y; });
}
Tensor addcmul(
    const Tensor& a, const Tensor& b, const Tensor& c, float value, const Memory& memory,
    const std::optional<Tensor>& output) {
    auto* device = tiled("addcmul", {&a, &b, &c});
    const auto shape = a.logical_shape(), row = c.logical_shape();
    LIMIT(
        shape.rank() == 4 && b.logical_shape() == shape && row[-1] == shape[-1] && row.volume() == row[-1],
        "the emulation's addcmul takes two tensors of one shape and a row: ", to_string(shape), ", ",
        to_string(b.logical_shape()), " and ", to_string(row));
    for (const auto* tensor : {&a, &b, &c}) {
        LIMIT(
            tensor->dtype() == DataType::FLOAT32 || tensor->dtype() == DataType::BFLOAT16,
            "the emulation's addcmul takes f32 and bf16: block formats take several programs");
    }
    auto out = output_of("addcmul", device, tile_spec(shape, a.dtype(), memory.value_or(a.memory_config())), output);
    auto x = Access::data(a, "addcmul"), y = Access::data(b, "addcmul"), z = Access::data(c, "addcmul");
    const Tiles t(a);
    // All three are unpacked to registers of 32 bits.
    dispatch("addcmul", key({a, b, c, out}), {a, b, c}, out, [=] {
        auto values = x->values;
        for (std::size_t i = 0; i < values.size(); i++) {
            values[i] += value * y->values[i] * z->values[i % t.padded_cols];
        }
        return values;
    });
    return out;
}
Tensor gelu(const Tensor& x, bool approximate, const Memory&, const std::optional<Tensor>& output) {
    return map("gelu", x, x.dtype(), output, approximate, [](float x, float fast) { return gelu_of(x, fast != 0); });
}
Tensor silu(const Tensor& x, const Memory&, const std::optional<Tensor>& output) {
    return map("silu", x, x.dtype(), output, 0, [](float x, float) { return x / (1 + std::exp(-x)); });
}
Tensor typecast(const Tensor& x, const DataType& dtype, const Memory&, const std::optional<Tensor>& output) {
    return map("typecast", x, dtype, output, 0, [](float x, float) { return x; });
}

Tensor linear(
    const Tensor& x, const Tensor& weight, const std::optional<const Tensor>& bias, bool transpose_a,
    bool transpose_b, const std::optional<const MemoryConfig>& memory, std::optional<const DataType> dtype,
    const std::optional<const operations::matmul::MatmulProgramConfig>& program,
    const std::optional<const Activation>& activation, Compute compute, std::optional<const CoreGrid> grid) {
    auto* device = tiled("linear", {&x, &weight});
    if (grid) {
        const auto have = device->compute_with_storage_grid_size();
        DEMAND(
            grid->x * grid->y > 0 && grid->x <= have.x && grid->y <= have.y, "core grid of ", grid->x, "x", grid->y,
            " on a device of ", have.x, "x", have.y);
    }
    LIMIT(!transpose_a && !transpose_b, "the emulation multiplies operands as they are");
    const auto shape = x.logical_shape(), w = weight.logical_shape();
    DEMAND(
        shape[-1] == w[-2], "The width of the first tensor must be equal to the height of the second tensor. Mismatch: width=",
        shape[-1], " height=", w[-2]);
    LIMIT(w.volume() == std::size_t{w[-1]} * w[-2], "the emulation's weights are matrices");
    DEMAND(
        weight.dtype() != DataType::UINT32 && x.dtype() != DataType::UINT32, "linear multiplies floating point");
    std::vector<Tensor> inputs{x, weight};
    std::shared_ptr<Data> b;
    if (bias) {
        tiled("linear", {&*bias});
        DEMAND(
            bias->logical_shape()[-1] == w[-1] && bias->padded_shape()[-2] == TILE, "bias of ",
            to_string(bias->logical_shape()), " for ", w[-1], " columns");
        b = Access::data(*bias, "linear");
        inputs.push_back(*bias);
    }
    std::vector<Unary> after;
    if (activation) {
        const auto* name = std::get_if<std::string>(&*activation);
        DEMAND(!name || *name == "gelu" || *name == "silu", "unknown activation ", name ? *name : "");
        after.push_back(
            name ? Unary(*name == "gelu" ? UnaryOpType::GELU : UnaryOpType::SILU, 1) : std::get<UnaryWithParam>(*activation));
    }
    Shape result = shape;
    result[-1] = w[-1];
    auto out = create_device_tensor(
        tile_spec(result, dtype.value_or(x.dtype()), memory ? Memory(*memory) : std::nullopt), device);
    auto a = Access::data(x, "linear"), m = Access::data(weight, "linear");
    const Tiles tx(x), tw(weight);
    const auto setup = config(compute);
    // The product applies the activation itself only where its cores or its configuration are given. Without either, and with
    // an operand or the result in L1, a kernel is taken that adds no bias.
    std::vector<Unary> fused = grid ? after : std::vector<Unary>();
    std::string cores = grid ? std::to_string(grid->x) + "x" + std::to_string(grid->y) : "";
    if (program) {
        DEMAND(!grid, "a program configuration and a core grid");
        const auto unary = blocks_of(*program, x, weight, out, setup, bias.has_value(), device, cores);
        if (unary) {
            fused.push_back(*unary);
        }
    }
    const bool near = x.memory_config().buffer_type() == BufferType::L1 || out.memory_config().buffer_type() == BufferType::L1;
    const int launched = bias && near && !program && !grid ? 2 : 1;
    dispatch("linear", key(inputs) + key({out}) + cores + std::to_string(fused.size()), inputs, out, [=] {
        const auto left = factor(a->values, setup.math_fidelity, false), right = factor(m->values, setup.math_fidelity, true);
        const std::size_t rows = tx.stack * tx.padded_rows;
        std::vector<float> values(rows * tw.padded_cols);
        product(left.data(), right.data(), values.data(), rows, tx.padded_cols, tw.padded_cols, setup.fp32_dest_acc_en);
        for (std::size_t i = 0; i < values.size(); i++) {
            values[i] += b ? b->values[i % tw.padded_cols] : 0;
            activate(fused, values[i]);
        }
        return values;
    }, launched);
    if (after.empty() || grid) {
        return out;
    }
    return map("activation", out, out.dtype(), std::nullopt, 0, [unary = after[0]](float x, float) {
        return activate(unary, x);
    });
}

Tensor rms_norm(
    const Tensor& x, float epsilon, const std::optional<const Tensor>& weight, const std::optional<const Tensor>& bias,
    const std::optional<const Tensor>& residual, const Memory& memory,
    const std::optional<const prim::LayerNormProgramConfig>&, Compute compute) {
    LIMIT(!residual, "the emulation has no fused residual");
    return norm("rms_norm", false, x, epsilon, weight, bias, memory, compute);
}
Tensor layer_norm(
    const Tensor& x, float epsilon, const std::optional<const Tensor>& weight, const std::optional<const Tensor>& bias,
    const std::optional<const Tensor>& residual, const Memory& memory,
    const std::optional<const prim::LayerNormProgramConfig>&, Compute compute) {
    LIMIT(!residual, "the emulation has no fused residual");
    return norm("layer_norm", true, x, epsilon, weight, bias, memory, compute);
}

}  // namespace ttnn
