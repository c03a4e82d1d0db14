"""CRKD's frame-level term: a low-resolution student's maps against the teacher's of the same size; a reconstruction."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from runtime.errors import BadInput


class FrameFeature(nn.Module):
    """Reconstruction of CRKD's frame-level feature distillation (arXiv 2303.06820).

        L = mean over frames, channels, positions of ( BN(conv1x1(f_s)) - f_t )^2

    Both maps have the same height and width, which is CRKD's finding: keep the student's map at the teacher's scale
    instead of upsampling it. The teacher's map is fixed, so plain mean squared error cannot collapse.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.adapt = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False), nn.BatchNorm2d(teacher_channels)
        )

    def forward(self, student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
        """(P,C_s,h,w), (P,C_t,h,w) -> scalar. Row i of both is the same frame; there is no padding between clips.

        `timeline.trim` drops edge frames that only one network has. Raises `BadInput` if frames or scale differ.
        """
        if student_maps.shape[0] != teacher_maps.shape[0] or student_maps.shape[2:] != teacher_maps.shape[2:]:
            raise BadInput(
                f"frame maps do not match: student {tuple(student_maps.shape)}, teacher {tuple(teacher_maps.shape)}; "
                "choose the teacher's frame_map stage and the student's strides so that both have one height and width"
            )
        return F.mse_loss(self.adapt(student_maps), teacher_maps.detach())
