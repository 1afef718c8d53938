// Operations that move values without changing them.
#include "internal.hpp"

#include <algorithm>

namespace ttnn {

using namespace tt::tt_metal;
using namespace tt::tt_metal::emulation;

Tensor to_layout(const Tensor& x, Layout layout) {
    auto data = Access::data(x, "to_layout");
    if (x.layout() == layout) {
        return x;
    }
    const auto spec = x.tensor_spec();
    const TensorSpec target(x.logical_shape(), TensorLayout(x.dtype(), PageConfig(layout), MemoryConfig{}));
    auto out = create_device_tensor(target, x.device());
    dispatch("to_layout", key({x}) + std::to_string(static_cast<int>(layout)), {x}, out, [=] {
        return pad(target, unpad(spec, data->values), 0);
    });
    return out;
}

Tensor transpose(const Tensor& x, int64_t dim1, int64_t dim2) {
    auto* device = tiled("transpose", {&x});
    LIMIT(dim1 == -2 && dim2 == -1, "the emulation transposes matrices");
    Shape shape = x.logical_shape();
    std::swap(shape[-2], shape[-1]);
    const auto spec = tile_spec(shape, x.dtype(), x.memory_config());
    auto out = create_device_tensor(spec, device);
    auto data = Access::data(x, "transpose");
    const Tiles t(x);
    dispatch("transpose", key({x}), {x}, out, [=] {
        std::vector<float> values(data->values.size());
        for (std::size_t m = 0; m < t.stack; m++) {
            for (std::size_t r = 0; r < t.padded_rows; r++) {
                for (std::size_t c = 0; c < t.padded_cols; c++) {
                    values[m * t.matrix() + c * t.padded_rows + r] = data->values[m * t.matrix() + r * t.padded_cols + c];
                }
            }
        }
        return values;
    });
    return out;
}

Tensor reshape(const Tensor& x, const Shape& shape) {
    auto data = Access::data(x, "reshape");
    DEMAND(
        shape.volume() == x.logical_shape().volume(), "cannot reshape ", to_string(x.logical_shape()), " to ",
        to_string(shape));
    const TensorSpec spec(shape, TensorLayout(x.dtype(), PageConfig(x.layout()), x.memory_config()));
    const bool tile = x.layout() == Layout::TILE;
    // Whole tiles keep their place: no copy.
    if (!tile || (shape[-1] == x.logical_shape()[-1] &&
                  (shape[-2] == x.logical_shape()[-2] ||
                   (shape[-2] % TILE == 0 && x.logical_shape()[-2] % TILE == 0)))) {
        return Access::view(x, spec);
    }
    auto out = create_device_tensor(spec, x.device());
    const auto source = x.tensor_spec();
    dispatch("reshape", key({x, out}), {x}, out, [=] { return pad(spec, unpad(source, data->values), 0); });
    return out;
}

Tensor slice(
    const Tensor& x, const std::array<uint32_t, 4>& begins, const std::array<uint32_t, 4>& ends,
    const std::array<uint32_t, 4>& step, const Memory&, const std::optional<Tensor>& output) {
    auto* device = tiled("slice", {&x});
    const auto shape = x.logical_shape();
    LIMIT(shape.rank() == 4, "the emulation slices tensors of rank 4");
    Shape result{0, 0, 0, 0};
    std::string range;
    for (int dim = 0; dim < 4; dim++) {
        LIMIT(step[dim] == 1, "the emulation slices without strides");
        DEMAND(
            begins[dim] < ends[dim] && ends[dim] <= shape[dim], "Ends ", ends[dim], " must be less than or equal to the shape of the tensor ",
            to_string(shape));
        result[dim] = ends[dim] - begins[dim];
        range += std::to_string(begins[dim]) + "-";
    }
    const auto spec = tile_spec(result, x.dtype(), x.memory_config());
    auto out = output_of("slice", device, spec, output);
    auto data = Access::data(x, "slice");
    const Tiles t(x);
    // Tile-aligned slices move whole tiles, padding included; others go through rows: untilized before, tilized after.
    const bool whole = begins[2] % TILE == 0 && (ends[2] % TILE == 0 || ends[2] == shape[2]) && begins[3] % TILE == 0;
    dispatch("slice", key({x, out}) + range, {x}, out, [=] {
        std::vector<float> values;
        values.reserve(result.volume());
        for (uint32_t n = begins[0]; n < ends[0]; n++) {
            for (uint32_t c = begins[1]; c < ends[1]; c++) {
                for (uint32_t r = begins[2]; r < ends[2]; r++) {
                    const float* row = &data->values[(n * shape[1] + c) * t.matrix() + r * t.padded_cols];
                    values.insert(values.end(), row + begins[3], row + ends[3]);
                }
            }
        }
        return pad(spec, values, 0);
    }, whole ? 1 : 3);
    return out;
}

Tensor concat(
    const std::vector<Tensor>& inputs, int dim, const Memory&, const std::optional<Tensor>& output, unsigned int) {
    DEMAND(!inputs.empty(), "ttnn.concat: expected a non-empty list of Tensors!");
    DEMAND(!output.has_value(), "optional output tensor currently unsupported!");
    DEMAND(dim >= 0 && dim < 4, "dim ", dim, " cannot be used for tensors of rank 4");
    Shape result = inputs[0].logical_shape();
    result[dim] = 0;
    for (const auto& input : inputs) {
        tiled("concat", {&inputs[0], &input});
        DEMAND(input.dtype() == inputs[0].dtype(), "All Tensors should have same dtypes");
        for (int other = 0; other < 4; other++) {
            DEMAND(
                other == dim || input.logical_shape()[other] == inputs[0].logical_shape()[other],
                "All dimensions must be the same size except for the dimension along which the contenation is taking place.");
        }
        result[dim] += input.logical_shape()[dim];
    }
    const auto spec = tile_spec(result, inputs[0].dtype(), inputs[0].memory_config());
    auto out = create_device_tensor(spec, inputs[0].device());
    std::vector<std::pair<TensorSpec, std::shared_ptr<Data>>> parts;
    for (const auto& input : inputs) {
        parts.emplace_back(input.tensor_spec(), Access::data(input, "concat"));
    }
    // So do rows that end within a tile.
    bool whole = dim != 2;
    for (std::size_t i = 0; !whole && i + 1 < inputs.size(); i++) {
        whole = inputs[i].logical_shape()[2] % TILE == 0;
    }
    dispatch("concat", key(inputs) + std::to_string(dim), inputs, out, [=] {
        std::vector<float> values;
        std::size_t outer = 1;
        for (int other = 0; other < dim; other++) {
            outer *= result[other];
        }
        std::vector<std::vector<float>> logical;
        for (const auto& [part, data] : parts) {
            logical.push_back(unpad(part, data->values));
        }
        for (std::size_t n = 0; n < outer; n++) {
            for (const auto& part : logical) {
                const std::size_t run = part.size() / outer;
                values.insert(values.end(), part.begin() + n * run, part.begin() + (n + 1) * run);
            }
        }
        return pad(spec, values, 0);
    }, whole ? 1 : static_cast<int>(inputs.size()) + 2);
    return out;
}

Tensor embedding(
    const Tensor& ids, const Tensor& table, const std::optional<int>& pad_token, const std::optional<Layout>& layout,
    prim::EmbeddingsType, std::optional<const DataType> dtype, const Memory&, const std::optional<Tensor>& output) {
    auto indices = Access::data(ids, "embedding"), rows = Access::data(table, "embedding");
    DEMAND(ids.dtype() == DataType::UINT32, "Input must be UINT32 or BFLOAT16");
    LIMIT(ids.layout() == Layout::ROW_MAJOR, "the emulation takes row-major ids");
    DEMAND(table.layout() == Layout::ROW_MAJOR, "Weights tensor layout must be ROW_MAJOR");
    DEMAND(table.dtype() == DataType::BFLOAT16, "Weights tensor must have BFLOAT16 dtype");
    LIMIT(!pad_token && !output && layout == Layout::TILE, "the emulation embeds into new tiles");
    const auto shape = ids.logical_shape();
    LIMIT(shape.rank() == 2 && table.logical_shape().rank() == 2, "the emulation takes matrices");
    const auto width = table.logical_shape()[-1], height = table.logical_shape()[-2];
    LIMIT(!dtype || *dtype == DataType::BFLOAT16, "the emulation embeds in bf16");
    Shape result = Shape{shape[0], shape[1], width};
    const auto spec = tile_spec(result, DataType::BFLOAT16);
    auto out = create_device_tensor(spec, ids.device());
    dispatch("embedding", key({ids, table}), {ids, table}, out, [=] {
        std::vector<float> values;
        values.reserve(indices->values.size() * width);
        for (float id : indices->values) {
            // The device would read beyond the table.
            DEMAND(id >= 0 && id < static_cast<float>(height), "embedding: id ", id, " of ", height);
            const float* row = &rows->values[static_cast<std::size_t>(id) * width];
            values.insert(values.end(), row, row + width);
        }
        return pad(spec, values, 0);
    });
    return out;
}

Tensor fill_cache(const Tensor& cache, const Tensor& input, uint32_t batch_index) {
    tiled("fill_cache", {&cache, &input});
    const auto c = cache.padded_shape(), i = input.padded_shape();
    DEMAND(c[-1] == i[-1], "Input tensor width (", i[-1], ") must equal cache tensor width (", c[-1], ")");
    DEMAND(i[0] == 1, "Input tensor batch size must be 1 but got ", i[0]);
    DEMAND(i[1] == c[1], "Input tensor height (", i[1], ") must equal cache tensor height (", c[1], ")");
    DEMAND(input.dtype() == cache.dtype(), "Input and cache tensors must have same dtype!");
    DEMAND(batch_index < c[0], "Batch index (", batch_index, ") must be less than cache tensor batch size (", c[0], ")");
    DEMAND(i[-2] <= c[-2], "Input tensor height (", i[-2], ") must be <= cache tensor height (", c[-2], ")");
    const auto grid = cache.device()->compute_with_storage_grid_size();
    DEMAND(
        i[1] == 1 || i[1] * i[-2] / TILE <= grid.x * grid.y, "Number of work blocks (", i[1] * i[-2] / TILE,
        ") must be <= total grid size (", grid.x * grid.y, ")");
    auto held = Access::data(cache, "fill_cache"), data = Access::data(input, "fill_cache");
    dispatch("fill_cache", key({cache, input}), {input}, cache, [=] {
        auto values = held->values;
        for (std::size_t head = 0; head < i[1]; head++) {
            const float* from = &data->values[head * i[-2] * i[-1]];
            std::copy(from, from + std::size_t{i[-2]} * i[-1], &values[(batch_index * c[1] + head) * c[-2] * c[-1]]);
        }
        return values;
    });
    return cache;
}

namespace experimental {

std::tuple<Tensor, Tensor, Tensor> nlp_create_qkv_heads(
    const Tensor& q, const std::optional<Tensor>& kv, uint32_t num_q_heads, std::optional<uint32_t> num_kv_heads,
    bool transpose_k_heads, const Memory& memory) {
    auto* device = tiled("nlp_create_qkv_heads", {&q});
    const auto shape = q.padded_shape();
    const uint32_t kv_heads = num_kv_heads.value_or(num_q_heads), all = num_q_heads + 2 * kv_heads;
    LIMIT(!kv && !transpose_k_heads, "the emulation splits one fused tensor, keys untransposed");
    DEMAND(shape[1] == 1, "Unsupported input sequence length ", shape[1], " is not equal to 1");
    DEMAND(q.logical_shape()[-2] % TILE == 0, "Unsupported input height ", q.logical_shape()[-2], " is not tile aligned");
    DEMAND(q.logical_shape()[-1] % all == 0, "Flattened hidden dimension ", q.logical_shape()[-1], " must be a multiple of ", all, " heads");
    const uint32_t width = q.logical_shape()[-1] / all;
    // The kernel moves whole tiles; heads that don't end on a tile give wrong data silently.
    DEMAND(width % TILE == 0, "nlp_create_qkv_heads gives wrong data for heads of ", width, ": pad them to whole tiles");
    auto data = Access::data(q, "nlp_create_qkv_heads");
    auto part = [&](uint32_t first, uint32_t heads) {
        auto out = create_device_tensor(tile_spec(Shape{shape[0], heads, shape[2], width}, q.dtype(), memory), device);
        dispatch("nlp_create_qkv_heads", key({q, out}) + std::to_string(first), {q}, out, [=] {
            std::vector<float> values;
            for (std::size_t n = 0; n < shape[0]; n++) {
                for (std::size_t head = first; head < first + heads; head++) {
                    for (std::size_t r = 0; r < shape[2]; r++) {
                        const float* row = &data->values[(n * shape[2] + r) * shape[3] + head * width];
                        values.insert(values.end(), row, row + width);
                    }
                }
            }
            return values;
        }, first == 0 ? 1 : 0);
        return out;
    };
    return {part(0, num_q_heads), part(num_q_heads, kv_heads), part(num_q_heads + kv_heads, kv_heads)};
}

Tensor nlp_concat_heads(const Tensor& x, const Memory& memory) {
    auto* device = tiled("nlp_concat_heads", {&x});
    const auto shape = x.logical_shape();
    DEMAND(shape[3] % TILE == 0 && shape[2] % TILE == 0, "nlp_concat_heads joins heads of whole tiles");
    auto out = create_device_tensor(tile_spec(Shape{shape[0], 1, shape[2], shape[1] * shape[3]}, x.dtype(), memory), device);
    auto data = Access::data(x, "nlp_concat_heads");
    dispatch("nlp_concat_heads", key({x}), {x}, out, [=] {
        std::vector<float> values;
        for (std::size_t n = 0; n < shape[0]; n++) {
            for (std::size_t r = 0; r < shape[2]; r++) {
                for (std::size_t head = 0; head < shape[1]; head++) {
                    const float* row = &data->values[((n * shape[1] + head) * shape[2] + r) * shape[3]];
                    values.insert(values.end(), row, row + shape[3]);
                }
            }
        }
        return values;
    });
    return out;
}

}  // namespace experimental
}  // namespace ttnn
