"""The operators of PyTorch: their families, and one name for each, whatever its form."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Literal, NamedTuple

Family = Literal[
    "copy", "elementwise", "reduction", "matrix", "convolution", "attention", "recurrent", "other"
]


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


_NAMES: Mapping[Family, str] = {
    "copy": """
        identity view view_as reshape reshape_as flatten unflatten permute transpose t swapaxes swapdims
        movedim squeeze unsqueeze expand expand_as repeat repeat_interleave tile cat concat concatenate stack
        hstack vstack dstack split chunk unbind narrow select gather index_select take take_along_dim
        masked_select scatter clone copy contiguous roll flip fliplr flipud rot90 unfold fold pad
        constantpad1d constantpad2d constantpad3d zeropad1d zeropad2d zeropad3d reflectionpad1d
        reflectionpad2d reflectionpad3d replicationpad1d replicationpad2d replicationpad3d pixelshuffle
        pixelunshuffle pixel_shuffle pixel_unshuffle channelshuffle channel_shuffle embedding one_hot diag
        diagonal diag_embed broadcast_to broadcast_tensors meshgrid full_like zeros_like ones_like rand_like
        randn_like empty_like atleast_1d atleast_2d atleast_3d ravel tril triu
        """,
    "elementwise": """
        relu relu6 leakyrelu leaky_relu prelu rrelu elu celu selu gelu silu mish sigmoid logsigmoid tanh
        hardsigmoid hardswish hardtanh hardshrink softshrink tanhshrink softplus softsign
        threshold glu dropout dropout1d dropout2d dropout3d alphadropout alpha_dropout featurealphadropout
        feature_alpha_dropout feature_dropout add sub subtract mul multiply div divide true_divide
        floor_divide remainder fmod neg negative reciprocal pow square sqrt rsqrt exp exp2 expm1 log log2
        log10 log1p sin cos tan asin acos atan atan2 arctan arctan2 sinh cosh asinh acosh atanh abs absolute
        sign sgn floor ceil round trunc frac clamp clip clamp_min clamp_max maximum minimum fmax fmin where
        masked_fill lerp addcmul addcdiv erf erfc erfinv lgamma digamma polygamma logit hypot heaviside
        nan_to_num isnan isinf rad2deg deg2rad
        isfinite eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or
        bitwise_xor bitwise_not bernoulli xlogy copysign gumbel sinc hard_sigmoid hard_tanh hard_swish
        """,
    "reduction": """
        sum mean prod max min amax amin aminmax argmax argmin var std var_mean std_mean median mode nanmean
        nansum nanmedian norm vector_norm logsumexp softmax softmin softmax2d logsoftmax log_softmax
        gumbel_softmax adaptivelogsoftmaxwithloss all any count_nonzero cumsum cumprod cummax cummin
        logcumsumexp sort argsort topk kthvalue unique histc bincount quantile dist cdist pdist
        pairwisedistance pairwise_distance cosinesimilarity cosine_similarity cross normalize trace
        batchnorm1d batchnorm2d batchnorm3d batch_norm syncbatchnorm lazybatchnorm1d lazybatchnorm2d
        lazybatchnorm3d instancenorm1d instancenorm2d instancenorm3d instance_norm layernorm layer_norm
        groupnorm group_norm rmsnorm rms_norm localresponsenorm local_response_norm crossmaplrn2d maxpool1d
        maxpool2d maxpool3d max_pool1d max_pool2d max_pool3d avgpool1d avgpool2d avgpool3d avg_pool1d
        avg_pool2d avg_pool3d adaptiveavgpool1d adaptiveavgpool2d adaptiveavgpool3d adaptive_avg_pool1d
        adaptive_avg_pool2d adaptive_avg_pool3d adaptivemaxpool1d adaptivemaxpool2d adaptivemaxpool3d
        adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d fractionalmaxpool2d fractionalmaxpool3d
        lppool1d lppool2d lp_pool1d lp_pool2d maxunpool1d maxunpool2d maxunpool3d max_unpool2d upsample
        upsamplingnearest2d upsamplingbilinear2d interpolate grid_sample affine_grid embeddingbag
        embedding_bag index_add scatter_add scatter_reduce l1loss l1_loss mseloss mse_loss smoothl1loss
        smooth_l1_loss huberloss huber_loss crossentropyloss cross_entropy nllloss nll_loss nllloss2d bceloss
        binary_cross_entropy bcewithlogitsloss binary_cross_entropy_with_logits kldivloss kl_div
        poissonnllloss gaussiannllloss hingeembeddingloss hinge_embedding_loss marginrankingloss
        margin_ranking_loss tripletmarginloss triplet_margin_loss tripletmarginwithdistanceloss
        cosineembeddingloss cosine_embedding_loss softmarginloss soft_margin_loss multimarginloss
        multilabelmarginloss multilabelsoftmarginloss ctcloss ctc_loss spectral_norm weight_norm
        """,
    "matrix": """
        linear lazylinear bilinear matmul mm bmm mv dot inner outer ger einsum tensordot addmm addmv addbmm
        baddbmm chain_matmul multi_dot kron matrix_power matrix_exp inverse pinverse inv pinv solve lstsq
        cholesky qr svd eig eigh det logdet slogdet matrix_norm vdot fft ifft rfft irfft fft2 ifft2 rfft2
        irfft2 fftn ifftn stft istft
        """,
    "convolution": """
        conv1d conv2d conv3d convtranspose1d convtranspose2d convtranspose3d conv_transpose1d
        conv_transpose2d conv_transpose3d lazyconv1d lazyconv2d lazyconv3d lazyconvtranspose1d
        lazyconvtranspose2d lazyconvtranspose3d
        """,
    "attention": """
        multiheadattention multi_head_attention_forward scaled_dot_product_attention transformer
        transformerencoder transformerdecoder transformerencoderlayer transformerdecoderlayer
        """,
    "recurrent": "rnn lstm gru rnncell lstmcell grucell rnn_tanh rnn_relu rnn_tanh_cell rnn_relu_cell",
}
_FAMILIES: Mapping[str, Family] = {name: family for family, names in _NAMES.items() for name in names.split()}
CONTAINERS = frozenset({"sequential", "modulelist", "moduledict", "ordereddict", "dataparallel"})
_IDLE_NAMES = """
    parameter parameterlist parameterdict buffer tensor as_tensor from_numpy zeros ones empty full rand randn
    randint randperm arange linspace logspace eye is_tensor no_grad enable_grad inference_mode autocast size
    device dtype numel finfo iinfo manual_seed float32 float16 bfloat16 int32 int64 long bool float half
    double int to cpu cuda detach requires_grad_ checkpoint floattensor longtensor booltensor promote_types
    is_floating_point is_available compile jit script normal_ uniform_ zeros_ ones_ constant_ xavier_uniform_
    xavier_normal_ kaiming_uniform_ kaiming_normal_ trunc_normal_ orthogonal_ calculate_gain broadcast_shapes
    normal uniform multinomial generator is_grad_enabled get_default_dtype typename set_grad_enabled assert_
    """
IDLE = words(_IDLE_NAMES)
"""What makes, converts or inspects tensors: no operator of the module."""


class Operation(NamedTuple):
    """One operator that a module applies, as the source spells it."""

    name: str
    family: Family
    call: ast.Call | None = None
    """The call that has its settings; None if there are none."""
    tensors: frozenset[int] = frozenset()
    """The `id` of each argument of the call that is a tensor."""


def family_of(name: str) -> Family | None:
    """The family of a layer, function or tensor method by its name; None if it is not known."""
    plain = name.lower()
    return _FAMILIES.get(plain) or _FAMILIES.get(plain.rstrip("_"))


VIEWS = words(
    """
    identity view view_as reshape reshape_as flatten unflatten permute transpose t swapaxes swapdims movedim
    moveaxis squeeze unsqueeze expand expand_as repeat tile split chunk unbind narrow select clone copy
    contiguous broadcast_to broadcast_tensors atleast_1d atleast_2d atleast_3d ravel rearrange as_strided
    tensor_split hsplit vsplit dsplit
    """
)
"""Operators whose result is their input, in another shape or layout: not part of the dataflow."""
_ONE_NAME = {
    one: name
    for name, others in {
        "add": "addition add",
        "sub": "subtraction subtract rsub",
        "mul": "multiplication multiply",
        "div": "division divide truedivide",
        "floordivide": "floordivision",
        "pow": "power square",
        "neg": "negation negative",
        "matmul": "mm bmm mv dot",
        "abs": "absolute",
        "clamp": "clip",
        "cat": "concat concatenate",
        "max": "amax",
        "min": "amin",
        "atan2": "arctan2",
        "softmax": "softmax2d",
        "bitwise": "bitwiseoperation",
    }.items()
    for one in others.split()
}


def operator_name(name: str) -> str:
    """The one name of an operator: layer, function, method and sign of the same operator give the same.

    >>> operator_name("MaxPool2d"), operator_name("max_pool2d"), operator_name("add_")
    ('maxpool2d', 'maxpool2d', 'add')
    """
    plain = name.lower().replace("_", "").replace(" ", "")
    return _ONE_NAME.get(plain, plain)
