// All calls of TTNN operations: changes between releases are confined to this file.
#include "inner.hpp"

#include <optional>
#include <tuple>

namespace pi0rt::ttnn {

namespace {

using Maybe = std::optional<metal::Tensor>;
using MaybeDtype = std::optional<const metal::DataType>;
// TTNN registers operations as templates, which take no empty braces for a list.
using Unary = sdk::operations::unary::EltwiseUnaryWithParam;
using Activations = ttsl::Span<const Unary>;

const metal::Tensor& of(const Tensor& tensor) { return tensor.inner->tensor; }

sdk::UnaryWithParam unary(Activation activation) {
    switch (activation) {
        case Activation::Silu: return sdk::UnaryWithParam(sdk::UnaryOpType::SILU);
        case Activation::FastGelu: return sdk::UnaryWithParam(sdk::UnaryOpType::GELU, 1.0f);
        default: return sdk::UnaryWithParam(sdk::UnaryOpType::GELU, 0.0f);
    }
}

sdk::DeviceComputeKernelConfig config(const metal::Tensor& x, const Compute& compute) {
    MathFidelity fidelity = MathFidelity::HiFi4;
    switch (compute.fidelity) {
        case Fidelity::LoFi: fidelity = MathFidelity::LoFi; break;
        case Fidelity::HiFi2: fidelity = MathFidelity::HiFi2; break;
        case Fidelity::HiFi3: fidelity = MathFidelity::HiFi3; break;
        default: break;
    }
    return sdk::init_device_compute_kernel_config(
        x.device()->arch(), std::nullopt, fidelity, compute.approximate, compute.f32_accumulate,
        compute.l1_accumulate);
}

using Config = sdk::operations::matmul::MatmulProgramConfig;
using MaybeMemory = std::optional<metal::MemoryConfig>;

/// What comes of values in L1 stays there.
MaybeMemory beside(const metal::Tensor& x) {
    const bool near = x.memory_config().buffer_type() == metal::BufferType::L1;
    return near ? sdk::L1_MEMORY_CONFIG : sdk::DRAM_MEMORY_CONFIG;
}

MaybeMemory beside(const metal::Tensor& x, const metal::Tensor& y) {
    const bool near = x.memory_config().buffer_type() == metal::BufferType::L1;
    return near ? beside(x) : beside(y);
}

Config config(const Blocks& blocks, const std::optional<sdk::UnaryWithParam>& activation) {
    const metal::CoreCoord grid{blocks.columns, blocks.lines};
    if (blocks.both) {
        sdk::operations::matmul::MatmulMultiCoreReuseMultiCastProgramConfig program{};
        program.compute_with_storage_grid_size = grid;
        program.in0_block_w = blocks.depth;
        program.out_subblock_h = blocks.register_rows;
        program.out_subblock_w = blocks.register_cols;
        program.out_block_h = blocks.block_rows;
        program.out_block_w = blocks.block_cols;
        program.per_core_M = blocks.share_rows;
        program.per_core_N = blocks.share_cols;
        program.transpose_mcast = false;
        program.fused_activation = activation;
        program.fuse_batch = true;
        return program;
    }
    sdk::operations::matmul::MatmulMultiCoreReuseMultiCast1DProgramConfig program{};
    program.compute_with_storage_grid_size = grid;
    program.in0_block_w = blocks.depth;
    program.out_subblock_h = blocks.register_rows;
    program.out_subblock_w = blocks.register_cols;
    program.out_block_h = blocks.block_rows;
    program.out_block_w = blocks.block_cols;
    program.per_core_M = blocks.share_rows;
    program.per_core_N = blocks.share_cols;
    program.fuse_batch = true;
    program.fused_activation = activation;
    program.mcast_in0 = true;
    return program;
}

}  // namespace

Handle tilize(const Tensor& x) { return wrap(sdk::to_layout(of(x), metal::Layout::TILE)); }

Handle transpose(const Tensor& x) { return wrap(sdk::transpose(of(x), -2, -1)); }

Handle typecast(const Tensor& x, Dtype dtype) { return wrap(sdk::typecast(of(x), dtype_of(dtype))); }

Handle reshape(const Tensor& x, Dims dims) { return wrap(sdk::reshape(of(x), shape_of(dims))); }

Handle slice(const Tensor& x, Dims begins, Dims ends) {
    return wrap(sdk::slice(of(x), begins, ends, Dims{1, 1, 1, 1}));
}

Handle concat(const Tensor& a, const Tensor& b, int32_t dim) {
    return wrap(sdk::concat(std::vector<metal::Tensor>{of(a), of(b)}, dim));
}

Handle embedding(const Tensor& ids, const Tensor& table) {
    return wrap(sdk::embedding(of(ids), of(table), std::nullopt, metal::Layout::TILE));
}

Handle add(const Tensor& a, const Tensor& b, Dtype dtype) {
    return wrap(sdk::add(of(a), of(b), MaybeDtype(dtype_of(dtype)), beside(of(a), of(b))));
}

Handle subtract(const Tensor& a, const Tensor& b) { return wrap(sdk::subtract(of(a), of(b))); }

Handle multiply(const Tensor& a, const Tensor& b, Dtype dtype) {
    return wrap(sdk::multiply(of(a), of(b), MaybeDtype(dtype_of(dtype)), beside(of(a))));
}

Handle multiply_activated(const Tensor& a, const Tensor& b, Activation activation, Dtype dtype) {
    const Unary first[] = {unary(activation)};
    const auto dtyped = MaybeDtype(dtype_of(dtype));
    return wrap(
        sdk::multiply(of(a), of(b), dtyped, beside(of(a)), std::nullopt, Activations(), Activations(first)));
}

Handle add_scaled(const Tensor& a, const Tensor& b, float factor, Dtype dtype) {
    const Unary second[] = {Unary(sdk::UnaryOpType::MUL_UNARY_SFPU, factor)};
    const auto dtyped = MaybeDtype(dtype_of(dtype));
    return wrap(sdk::add(
        of(a), of(b), dtyped, std::nullopt, std::nullopt, Activations(), Activations(), Activations(second)));
}

Handle add_product(const Tensor& a, const Tensor& b, const Tensor& c) {
    return wrap(sdk::addcmul(of(a), of(b), of(c), 1.0f, beside(of(a), of(b))));
}

Handle scale(const Tensor& a, float factor) { return wrap(sdk::multiply(of(a), factor)); }

Handle activate(const Tensor& x, Activation activation) {
    return activation == Activation::Silu ? wrap(sdk::silu(of(x)))
                                          : wrap(sdk::gelu(of(x), activation == Activation::FastGelu));
}

Handle linear(
    const Tensor& x, const Tensor& weight, const Tensor* bias, Activation activation, Dtype dtype,
    const Compute& compute, const Blocks& blocks) {
    std::optional<const metal::Tensor> b;
    if (bias) {
        b.emplace(of(*bias));
    }
    if (blocks.columns > 0) {
        std::optional<sdk::UnaryWithParam> after;
        if (activation != Activation::None) {
            after.emplace(unary(activation));
        }
        const std::optional<const Config> program(config(blocks, after));
        const std::optional<const metal::MemoryConfig> memory(
            blocks.near ? sdk::L1_MEMORY_CONFIG : sdk::DRAM_MEMORY_CONFIG);
        // The configuration has the activation: as an argument too, it would be applied twice.
        return wrap(sdk::linear(
            of(x), of(weight), b, false, false, memory, dtype_of(dtype), program, std::nullopt,
            config(of(x), compute)));
    }
    std::optional<const sdk::Activation> fused;
    std::optional<const sdk::CoreGrid> grid;
    if (activation != Activation::None) {
        fused.emplace(unary(activation));
        // Without a grid TTNN applies the activation in a program of its own.
        const auto cores = of(x).device()->compute_with_storage_grid_size();
        grid.emplace(cores.x, cores.y);
    }
    return wrap(sdk::linear(
        of(x), of(weight), b, false, false, std::nullopt, dtype_of(dtype), std::nullopt, fused,
        config(of(x), compute), grid));
}

Handle rms_norm(
    const Tensor& x, const Tensor& weight, const Tensor* shift, float epsilon, const Compute& compute) {
    std::optional<const metal::Tensor> beta;
    if (shift) {
        beta.emplace(of(*shift));
    }
    return wrap(sdk::rms_norm(
        of(x), epsilon, of(weight), beta, std::nullopt, beside(of(x)), std::nullopt, config(of(x), compute)));
}

Handle layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float epsilon, const Compute& compute) {
    return wrap(sdk::layer_norm(
        of(x), epsilon, of(weight), of(bias), std::nullopt, beside(of(x)), std::nullopt, config(of(x), compute)));
}

Handle rotary(const Tensor& x, const Tensor& cos, const Tensor& sin, const Compute& compute) {
    return wrap(sdk::experimental::rotary_embedding(
        of(x), of(cos), of(sin), std::nullopt, beside(of(x)), config(of(x), compute)));
}

void split_heads(const Tensor& fused, uint32_t queries, uint32_t keys, Handle& q, Handle& k, Handle& v) {
    auto [a, b, c] =
        sdk::experimental::nlp_create_qkv_heads(of(fused), std::nullopt, queries, keys, false, beside(of(fused)));
    q = wrap(std::move(a));
    k = wrap(std::move(b));
    v = wrap(std::move(c));
}

Handle join_heads(const Tensor& x) { return wrap(sdk::experimental::nlp_concat_heads(of(x), beside(of(x)))); }

Handle attention(
    const Tensor& q, const Tensor& k, const Tensor& v, const Tensor* mask, float scale, const Chunks& chunks,
    const Compute& compute) {
    Maybe hidden;
    if (mask) {
        hidden.emplace(of(*mask));
    }
    const sdk::operations::transformer::SDPAProgramConfig program{
        .compute_with_storage_grid_size = of(q).device()->compute_with_storage_grid_size(),
        .sub_core_grids = std::nullopt,
        .q_chunk_size = chunks.queries,
        .k_chunk_size = chunks.keys,
        .exp_approx_mode = chunks.approximate_exp};
    return wrap(sdk::transformer::scaled_dot_product_attention(
        of(q), of(k), of(v), hidden, /*is_causal=*/false, scale, std::nullopt, beside(of(q)), program,
        config(of(q), compute)));
}

void fill_cache(Tensor& cache, const Tensor& rows) { sdk::fill_cache(of(cache), of(rows), 0); }

}  // namespace pi0rt::ttnn
