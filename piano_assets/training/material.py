"""What a stack of members hears: crops of training clips with their augmentation, and windows over whole clips.

Shapes: m members, b clips a batch, n frames or notes, w bands or columns, k features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from piano_assets.catalogue.trial import Augmentation, Trial
from piano_assets.models.network import Network
from piano_assets.training import augmentation
from piano_assets.training.batches import Clips, first_frames, moments, windows
from piano_assets.training.data import TrialData, trained_variants
from piano_assets.training.lesson import UNKNOWN_ERROR
from piano_assets.training.members import Group, Track, crop_length, generator
from piano_assets.training.smoothing import smoothed, spread_smoothed, true_variance
from piano_assets.training.sound import bent_log_mel, samples_needed

ERROR_FLOOR = 0.02
"""Least standard error of a label, a seventh of a rating point: a few raters who happen to agree are not certain."""

PLACES = 7
CROP, VERSION, PARTNER, PARTNER_CROP, VARIANT, TEMPO, SHIFT = range(PLACES)
"""Uniforms that choose and place a crop; behind them come those of `augmentation`."""
N_UNIFORMS = PLACES + augmentation.N_UNIFORMS


@dataclass
class Epoch:
    """One epoch's draws, member by member: clip (m, steps, b), uniforms (m, steps, b, N_UNIFORMS), touched likewise.

    touched: False where a clip's untouched version comes.
    """

    clip: Tensor
    uniforms: Tensor
    touched: Tensor


class Material:
    """The clips of one trial's data on one device, for the groups that train on them.

    trial: any of those that share the data: its crops and inputs count.
    """

    def __init__(self, data: TrialData, trial: Trial, device: str) -> None:
        self.data, self.device, self.crop, self.inputs = data, device, crop_length(trial), trial.inputs
        self.clips = Clips.of(data.sequence, device) if data.sequence else None
        self.sound = Clips.of(data.sound, device) if data.sound else None
        self.variants = [Clips.of(v, device) for v in data.variants]
        self.targets = torch.tensor(data.targets, dtype=torch.float32, device=device)
        errors = np.where(np.isfinite(data.errors), data.errors, UNKNOWN_ERROR)
        self.errors = torch.tensor(np.maximum(errors, ERROR_FLOOR), dtype=torch.float32, device=device)
        self._always_full = self.clips is not None and int(self.clips.n_frames.min()) >= self.crop
        self._versions: dict[tuple[int, int, int], Tensor] = {}
        self._similar: dict[tuple[int, int], Tensor] = {}

    @cached_property
    def _sums(self) -> tuple[Tensor, Tensor]:
        assert self.clips is not None
        return self.clips.sums()

    def standardise(self, network: Network, tracks: Sequence[Track]) -> None:
        """Keep each member's training moments in its network: frames, features, targets."""
        for i, track in enumerate(tracks):
            rows = torch.from_numpy(track.group.train).to(self.device)
            if self.clips is not None:
                network.input_mean[i], network.input_std[i] = moments(self.clips, self._sums, rows)
            if self.data.features is not None:
                x = self.data.features[np.ix_(track.group.train, track.group.columns)]
                known = np.isfinite(x)
                n = np.maximum(known.sum(0), 1)
                mean = np.where(known, x, 0).sum(0) / n
                std = np.sqrt((np.where(known, x - mean, 0) ** 2).sum(0) / n)
                network.feature_mean[i] = torch.from_numpy(mean).float()
                network.feature_std[i] = torch.from_numpy(np.where(std > 1e-9, std, 1.0)).float()
            network.target_mean[i] = self.targets[rows].mean(0)
            # A dimension that never varies in training is predicted by its mean; a floor keeps it learnable.
            network.target_std[i] = self.targets[rows].std(0, correction=0).clamp(min=1e-3)

    def features(self, network: Network, tracks: Sequence[Track], of: np.ndarray | None = None) -> Tensor | None:
        """Every clip's standardised features for every member, (m, n_clips, k); None where none are heard.

        of: (n_clips, n_features) of the clips as something was done to them, in place of their own.
        """
        table = self.data.features if of is None else of
        if table is None:
            return None
        raw = np.stack([table[:, t.group.columns] for t in tracks])
        return network.standardise_features(torch.from_numpy(raw).float().to(self.device))

    def versions(self, network: Network, tracks: Sequence[Track]) -> Tensor | None:
        """The features of every variant that training clips are heard in, (m, n_clips, v, k); None without any."""
        found = [self.features(network, tracks, self.data.views[v]) for v in trained_variants(tracks[0].trial)]
        return torch.stack([x for x in found if x is not None], 2) if found else None

    def labels(self, tracks: Sequence[Track]) -> Tensor:
        """What each member learns, (m, n_clips, 19): the labels, smoothed where its optimisation says so."""
        found = []
        for track in tracks:
            rows, how, target = torch.from_numpy(track.group.train), track.optimisation, self.targets
            mean = target[rows].mean(0)
            if how.label_smoothing:
                target = smoothed(target, mean, how.label_smoothing)
            if how.spread_smoothing:
                variance = true_variance(self.targets[rows], self.errors[rows])
                target = spread_smoothed(target, self.errors, mean, variance)
            found.append(target)
        return torch.stack(found)

    def epoch(self, tracks: Sequence[Track]) -> Epoch:
        """Draw an epoch of every member from its own stream: what it draws does not depend on its stack."""
        drawn = [self._draw(track) for track in tracks]
        return Epoch(*(torch.stack(part).to(self.device) for part in zip(*drawn, strict=True)))

    def _draw(self, track: Track) -> tuple[Tensor, Tensor, Tensor]:
        group, how = track.group, track.trial.augmentation
        shape = (group.steps, group.batch_size)
        n, wanted = len(group.train), group.steps * group.batch_size
        versions = how.factor if how.longer else 1
        orders = [torch.randperm(n * versions, generator=track.order) for _ in range(-(-wanted // (n * versions)))]
        order = torch.cat(orders)[:wanted]
        uniforms = torch.rand(wanted, N_UNIFORMS, generator=track.order)
        clip = torch.from_numpy(group.train)[order % n]
        touched = torch.ones(wanted, dtype=torch.bool)
        if how.factor:
            version = order // n if how.longer else (uniforms[:, VERSION] * how.factor).long().clamp(max=how.factor - 1)
            # The crop is drawn afresh as in every trial; what makes a version is fixed with it.
            uniforms[:, PARTNER:] = self._fixed(group, how)[clip, version, PARTNER:]
            touched = version > 0
        return clip.view(shape), uniforms.view(*shape, -1), touched.view(shape)

    def _fixed(self, group: Group, how: Augmentation) -> Tensor:
        """The uniforms of every clip's versions, (n_clips, factor, N_UNIFORMS), the same in every epoch."""
        key = group.seed, group.fold, how.factor
        if key not in self._versions:
            stream = generator(group.seed, group.fold, "versions")
            self._versions[key] = torch.rand(len(self.data.clips), how.factor, N_UNIFORMS, generator=stream)
        return self._versions[key]

    def batch(
        self, network: Network, tracks: Sequence[Track], labels: Tensor, clip: Tensor, u: Tensor, touched: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Standardised frames (m, b, n, w), their mask, and targets (m, b, 19) of one step.

        labels: (m, n_clips, 19). clip: (m, b). u: (m, b, N_UNIFORMS). touched: (m, b).
        """
        member = torch.arange(len(tracks), device=self.device)[:, None]
        target = labels[member, clip]
        if self.clips is None:
            return None, None, target
        how = [t.trial.augmentation for t in tracks]
        frames, mask = self._crop(how, clip, u[..., CROP], u, touched)
        x = network.standardise_frames(frames, mask)
        if any(a.mixup + a.c_mixup + a.cutmix for a in how):
            rates = torch.tensor([[getattr(a, name) for name in augmentation.MIXTURES] for a in how]).to(self.device)
            rates = rates[:, None] * touched[..., None]
            other = self._partners(tracks, clip, u[..., PARTNER], augmentation.mixture(u[..., PLACES:], rates))
            partner, partner_mask = self._crop(how, other, u[..., PARTNER_CROP], u, touched)
            partner = network.standardise_frames(partner, partner_mask)
            x, target = augmentation.mix(x, partner, target, labels[member, other], u[..., PLACES:], rates)
            # A mixture ends with the longer of the two; crops that draw none keep their own end.
            mixed = (augmentation.mixture(u[..., PLACES:], rates) > 0)[..., None]
            mask = mask if mask is None or partner_mask is None else mask | (partner_mask & mixed)
        if any(a.spec_augment for a in how):
            masked = torch.tensor([a.spec_augment for a in how], device=self.device)[:, None] * touched
            x = augmentation.spec_augment(x, u[..., PLACES:], masked)
        return x, mask, target

    def _crop(
        self, how: Sequence[Augmentation], clip: Tensor, place: Tensor, u: Tensor, touched: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Raw crops (m, b, n, w) of clips, stretched, shifted or taken from another rendering as each member asks."""
        assert self.clips is not None
        if self.sound is not None:
            return self._bent(how, clip, place, u, touched)
        if not self.variants:
            frames, mask = self.clips.cut(clip, first_frames(self.clips.n_frames[clip], self.crop, place), self.crop)
            return frames, None if self._always_full else mask
        tables = [self.clips, *self.variants]
        which = (u[..., VARIANT] * len(tables)).long() * touched
        frames = torch.empty(*clip.shape, self.crop, self.clips.width, device=self.device)
        mask = torch.empty(*clip.shape, self.crop, dtype=torch.bool, device=self.device)
        for i, table in enumerate(tables):
            here = which == i
            mine = clip[here]
            first = first_frames(table.n_frames[mine], self.crop, place[here])
            frames[here], mask[here] = table.cut(mine, first, self.crop)
        return frames, mask

    def _bent(
        self, how: Sequence[Augmentation], clip: Tensor, place: Tensor, u: Tensor, touched: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Crops made from the samples, each with its own tempo ratio and shift; silence beyond a clip is masked."""
        from piano_assets.features.spectrogram_specs import SPECTROGRAMS

        assert self.sound is not None
        stretch = torch.tensor([a.time_stretch for a in how], device=self.device)[:, None]
        shift = torch.tensor([float(a.pitch_shift) for a in how], device=self.device)[:, None]
        ratio = torch.where(touched, augmentation.tempo_ratio(u[..., TEMPO], stretch), 1.0)
        semitones = torch.where(touched, augmentation.shift_semitones(u[..., SHIFT], shift), 0.0)
        n_frames = self.sound.n_frames[clip]
        span = (ratio * self.crop).ceil().long()
        first = first_frames(n_frames, span, place)
        spec = SPECTROGRAMS[str(self.inputs.spectrogram)]
        margin, rows = samples_needed(self.crop, max(a.time_stretch for a in how), spec)
        samples, heard = self.sound.cut(clip, first - margin, rows)
        samples = torch.where(heard[..., None], samples, 0.0) / 32768
        frames = bent_log_mel(
            samples.flatten(0, 1).flatten(1), ratio.flatten(), semitones.flatten(), self.crop, margin, spec
        )
        at = first[..., None] + ratio[..., None] * torch.arange(self.crop, device=self.device)
        return frames.unflatten(0, clip.shape), at < n_frames[..., None]

    def _partners(self, tracks: Sequence[Track], clip: Tensor, u: Tensor, kind: Tensor) -> Tensor:
        """A training clip to mix each with, (m, b): by likeness of labels for C-Mixup, else any other."""
        other = clip.clone()
        for i, track in enumerate(tracks):
            how = track.trial.augmentation
            if not how.mixup + how.c_mixup + how.cutmix:
                continue
            rows = torch.from_numpy(track.group.train).to(self.device)
            at = torch.searchsorted(rows, clip[i])  # rows are sorted
            partner = augmentation.uniform_partner(at, len(rows), u[i])
            if how.c_mixup:
                similar = augmentation.similar_partner(self._likeness(track.group, rows), at, u[i])
                partner = torch.where(kind[i] == 1 + augmentation.MIXTURES.index("c_mixup"), similar, partner)
            other[i] = rows[partner]
        return other

    def _likeness(self, group: Group, rows: Tensor) -> Tensor:
        """`partners_by_similarity` of a group's training clips, made once."""
        key = group.seed, group.fold
        if key not in self._similar:
            self._similar[key] = augmentation.partners_by_similarity(self.targets[rows])
        return self._similar[key]

    def windows(
        self, features: Tensor | None, rows: Sequence[np.ndarray], batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]]:
        """Batches (place (m, b), raw frames, mask, features) that cover every frame of each member's clips."""
        n_frames = np.ones(len(self.data.clips), int) if self.clips is None else self.clips.n_frames.cpu().numpy()
        for found in windows(n_frames, rows, self.crop or 1, batch_size):
            place, clip, first = (torch.from_numpy(x).to(self.device) for x in found)
            some = None if features is None else features[torch.arange(len(rows), device=self.device)[:, None], clip]
            if self.clips is None:
                yield place, None, None, some
            else:
                frames, mask = self.clips.cut(clip, first, self.crop)
                yield place, frames, None if self._always_full else mask, some
