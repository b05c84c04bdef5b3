"""Networks that read images of H-Si(100): the three of Ziatdinov et al., and one that does it all.

The three are described in the methods of "Robust multi-scale multi-feature deep learning for atomic
and defect identification in scanning tunneling microscopy on H-Si(100) 2x1 surface". Convolutions
are 3 x 3, activations leaky ReLU with a slope of 0.01. What the article leaves open (number of
filters of the first two networks, batch normalisation, learned upsampling) is chosen here.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "OUTPUTS",
    "QUALITIES",
    "SITE_FEATURES",
    "build_atoms",
    "build_defects",
    "build_judges",
    "build_surface",
    "build_terraces",
    "fold",
]

SLOPE = 0.01
RATES = (2, 4, 6)
"""Dilation rates of the spatial pyramids."""

WIDTHS = (16, 32, 64)
"""Channels of the multi-task network at a half, a quarter and an eighth of the resolution."""

SITE_FEATURES = 18
"""Numbers by which a site is judged, see `bluesky_gpsts.images.sitejudges`."""

JUDGE_WIDTHS = (32, 16)
"""Hidden layers of what judges a site."""

QUALITIES = 9
"""Verdicts on the image that the multi-task network knows: the first is "fine", the last "rows"."""

OUTPUTS = {"atom": 4, "offset": 8, "defect": 4, "step": 1, "direction": 2}
"""Channels of the heads at half resolution; fours of them are the four pixels of a cell."""


def _conv(inside: int, outside: int, rate: int = 1) -> "nn.Sequential":
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=rate, dilation=rate),
        nn.BatchNorm2d(outside),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


def _convs(inside: int, outside: int, count: int) -> "nn.Sequential":
    from torch import nn

    channels = [inside] + [outside] * count
    return nn.Sequential(*(_conv(a, b) for a, b in zip(channels, channels[1:], strict=False)))


def _pyramid(inside: int, outside: int, rates: Sequence[int] = RATES) -> "nn.Module":
    """Dilated convolutions one after another, the results of all added up."""
    from torch import nn

    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(
                _conv(inside if number == 0 else outside, outside, rate)
                for number, rate in enumerate(rates)
            )

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            total = x = self.layers[0](x)
            for layer in self.layers[1:]:
                x = layer(x)
                total = total + x
            return total

    return Pyramid()


def _dilated_unet(filters: int, outputs: int) -> "nn.Module":
    """U-Net of three poolings with a pyramid of dilated convolutions in its bottleneck."""
    import torch
    from torch import nn
    from torch.nn.functional import interpolate, max_pool2d

    class DilatedUNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            one, two, four, eight = (filters * factor for factor in (1, 2, 4, 8))
            self.down1 = _convs(1, one, 1)
            self.down2 = _convs(one, two, 2)
            self.down3 = _convs(two, four, 2)
            self.bottleneck = _pyramid(four, eight)
            self.narrow3, self.up3 = nn.Conv2d(eight, four, 1), _convs(2 * four, four, 2)
            self.narrow2, self.up2 = nn.Conv2d(four, two, 1), _convs(2 * two, two, 2)
            self.narrow1, self.up1 = nn.Conv2d(two, one, 1), _convs(2 * one, one, 1)
            self.last = nn.Conv2d(one, outputs, 1)

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            first = self.down1(x)
            second = self.down2(max_pool2d(first, 2))
            third = self.down3(max_pool2d(second, 2))
            x = self.bottleneck(max_pool2d(third, 2))
            for narrow, up, beside in (
                (self.narrow3, self.up3, third),
                (self.narrow2, self.up2, second),
                (self.narrow1, self.up1, first),
            ):
                wide = interpolate(narrow(x), scale_factor=2, mode="bilinear", align_corners=False)
                x = up(torch.cat((wide, beside), 1))
            result: torch.Tensor = self.last(x)
            return result

    return DilatedUNet()


def build_terraces() -> "nn.Module":
    """Build NN-0: step edges against terraces.

    Returns
    -------
    torch.nn.Module
        From (N, 1, H, W) to logits (N, 1, H, W) of step edges; H and W divisible by 8.
    """
    return _dilated_unet(16, 1)


def build_atoms() -> "nn.Module":
    """Build NN-1: atoms against everything else.

    Returns
    -------
    torch.nn.Module
        From (N, 1, H, W) to logits (N, 1, H, W) of atoms; H and W divisible by 8.
    """
    return _dilated_unet(16, 1)


def build_defects() -> "nn.Module":
    """Build NN-2: defects, which break the period of the dimer rows.

    Returns
    -------
    torch.nn.Module
        From (N, 1, H, W) to logits (N, 1, H, W) of defects; H and W divisible by 2.
    """
    from torch import nn

    return nn.Sequential(
        _convs(1, 25, 3),
        nn.MaxPool2d(2),
        _pyramid(25, 50),
        _pyramid(50, 50),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        _convs(50, 25, 3),
        nn.Conv2d(25, 1, 1),
    )


def build_surface(inputs: int = 3) -> "nn.Module":
    """Build the multi-task network: steps, direction of rows, atoms, defects, quality.

    Pixels in blocks of 2 x 2 become channels first (pixel unshuffle), so that nothing is computed
    at full resolution, and the heads of atoms, offsets and defects turn channels into pixels again.

    Parameters
    ----------
    inputs : int
        Channels of the prepared image.

    Returns
    -------
    torch.nn.Module
        From (N, inputs, H, W), H and W divisible by 8, to a pair: (N, sum of `OUTPUTS`, H/2, W/2)
        of logits, offsets and directions, and (N, `QUALITIES`, H/8, W/8) of logits of the quality.
    """
    import torch
    from torch import nn
    from torch.nn.functional import interpolate

    class Surface(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            fine, middle, coarse = WIDTHS
            self.stem = nn.Sequential(_conv(4 * inputs, fine), _conv(fine, fine))
            self.down2 = nn.Conv2d(fine, middle, 2, stride=2)
            self.inner2 = nn.Sequential(_conv(middle, middle), _conv(middle, middle))
            self.down3 = nn.Conv2d(middle, coarse, 2, stride=2)
            self.bottleneck = nn.Sequential(*(_conv(coarse, coarse, rate) for rate in (1, 2, 4)))
            self.quality = nn.Conv2d(coarse, QUALITIES, 1)
            self.up3 = nn.Conv2d(coarse, middle, 1)
            self.outer2 = nn.Sequential(_conv(middle, middle), _conv(middle, middle))
            self.up2 = nn.Conv2d(middle, fine, 1)
            self.outer1 = nn.Sequential(_conv(fine, fine), _conv(fine, 2 * fine))
            self.heads = nn.Conv2d(2 * fine, sum(OUTPUTS.values()), 1)

        def forward(self, x: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
            first = self.stem(torch.pixel_unshuffle(x, 2))
            second = self.inner2(self.down2(first))
            third = self.bottleneck(self.down3(second))

            def wide(narrow: "torch.Tensor") -> "torch.Tensor":
                return interpolate(narrow, scale_factor=2, mode="bilinear", align_corners=False)

            back = self.outer2(second + wide(self.up3(third)))
            return self.heads(self.outer1(first + wide(self.up2(back)))), self.quality(third)

    return Surface()


def build_judges(members: int, inputs: int = SITE_FEATURES) -> "nn.Module":
    """Build an ensemble of perceptrons that judge sites, all computed at once.

    Parameters
    ----------
    members : int
        How many.
    inputs : int
        Numbers that tell of a site.

    Returns
    -------
    torch.nn.Module
        From (N, inputs), or (members, N, inputs) for each its own, to logits (members, N). The
        buffers `mean` and `scale` (inputs,) are those of the numbers that it learns from.
    """
    import torch
    from torch import nn
    from torch.nn.functional import leaky_relu

    class Judges(nn.Module):
        mean: torch.Tensor
        scale: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.members = members
            self.register_buffer("mean", torch.zeros(inputs))
            self.register_buffer("scale", torch.ones(inputs))
            sizes = (inputs, *JUDGE_WIDTHS, 1)
            self.weights = nn.ParameterList(
                nn.init.normal_(torch.empty(members, a, b), std=(2.0 / a) ** 0.5)
                for a, b in zip(sizes, sizes[1:], strict=False)
            )
            self.shifts = nn.ParameterList(torch.zeros(members, 1, b) for b in sizes[1:])

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            x = ((x - self.mean) / self.scale).expand(members, -1, -1)
            for number, (weight, shift) in enumerate(zip(self.weights, self.shifts, strict=True)):
                if number:
                    x = leaky_relu(x, SLOPE, inplace=True)
                x = torch.baddbmm(shift, x, weight)
            return x[..., 0]

    return Judges()


def fold(net: "nn.Module") -> "nn.Module":
    """Fold batch normalisation into the convolutions, for use after training.

    Parameters
    ----------
    net : torch.nn.Module
        One of the networks here; left as it is.

    Returns
    -------
    torch.nn.Module
        A copy in evaluation mode that computes the same in fewer steps, with half as many arrays.
    """
    import copy

    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    result = copy.deepcopy(net).eval()
    for module in result.modules():
        if isinstance(module, nn.Sequential):
            for number in range(len(module) - 1):
                conv, norm = module[number], module[number + 1]
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[number] = fuse_conv_bn_eval(conv, norm)
                    module[number + 1] = nn.Identity()
    return result.requires_grad_(False)
