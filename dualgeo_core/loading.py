"""Opens what a workspace holds, models on the profile's device; whatever does not belong together is refused."""

from typing import TYPE_CHECKING

import torch

from dualgeo_core.errors import InputError
from dualgeo_core.files import FINGERPRINT_FILE, fingerprint, read_json
from dualgeo_core.model.fusion import DualViewModel, model_fingerprint
from dualgeo_core.retrieval.candidates import Retriever
from dualgeo_core.retrieval.index import GalleryIndex
from dualgeo_core.settings import Profile, Representation
from dualgeo_core.shards import folder_signature
from dualgeo_core.views.encoder import Encoder, load_encoder
from dualgeo_core.views.segmenter import Segmenter, load_segmenter
from dualgeo_core.views.store import Views, load_views
from dualgeo_core.workspace import GALLERY, Workspace

if TYPE_CHECKING:
    from dualgeo_core.model.augmentation import AugmentedEncoding


def choose_device(profile: Profile) -> torch.device:
    """The profile's device, or the GPU where there is one; sets the number of CPU threads."""
    torch.set_num_threads(profile.threads)
    return torch.device(profile.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def open_encoder(workspace: Workspace) -> Encoder:
    """The profile's frozen image encoder."""
    return load_encoder(workspace.profile.encoder, device=choose_device(workspace.profile))


def open_segmenter(workspace: Workspace) -> Segmenter:
    """The segmenter that the asset `segmenter` left; raises InputError where it is not this profile's."""
    return load_segmenter(
        workspace.profile.segmenter,
        workspace.profile.encoder,
        folder=workspace.segmenter,
        device=choose_device(workspace.profile),
    )


def open_model(workspace: Workspace, representation: Representation) -> DualViewModel | None:
    """The trained model of a representation; None for `encoder`, which needs none."""
    if representation == "encoder":
        return None
    model = DualViewModel.from_pretrained(workspace.model(representation))
    return model.to(choose_device(workspace.profile)).eval()


def views_of(workspace: Workspace, photos_name: str) -> Views:
    """Both views of a photo set; raises InputError where they were made of other photos, or by other settings."""
    profile = workspace.profile
    for folder, settings in (
        (workspace.features(photos_name), profile.encoder),
        (workspace.masks(photos_name), profile.segmenter),
    ):
        if read_json(folder / FINGERPRINT_FILE).get("settings") != settings.fingerprint:
            raise InputError(f"{folder} was made with other settings than the profile's; materialize it again")
    return load_views(
        photos=workspace.photos(photos_name),
        features_folder=workspace.features(photos_name),
        masks_folder=workspace.masks(photos_name),
        label_grid=profile.model.label_grid,
    )


def open_augmentation(workspace: Workspace) -> "AugmentedEncoding | None":
    """What encodes augmented gallery photos anew in every training step, where the profile recomputes; else None."""
    if not workspace.profile.training.recompute:
        return None
    from dualgeo_core.model.augmentation import AugmentedEncoding

    return AugmentedEncoding(
        photos=workspace.photos(GALLERY),
        masks_folder=workspace.masks(GALLERY),
        encoder=open_encoder(workspace),
        label_grid=workspace.profile.model.label_grid,
    )


def open_retriever(workspace: Workspace, representation: Representation) -> Retriever:
    """The index of a representation with the gallery behind it; raises InputError where they do not belong together."""
    gallery = views_of(workspace, GALLERY)
    signature = index_signature(workspace, embeddings_signature(workspace, representation, gallery))
    index = GalleryIndex(
        folder=workspace.index(representation), signature=signature, probes=workspace.profile.retrieval.probes
    )
    return Retriever(index=index, gallery=gallery, settings=workspace.profile.retrieval)


def require_same_views(gallery: Views, queries: Views) -> None:
    """Raises InputError where queries were seen by another encoder or segmenter than the gallery."""
    for view, made_by in (("encoder", "features"), ("segmenter", "masks")):
        theirs, ours = getattr(queries, view), getattr(gallery, view)
        if theirs != ours:
            raise InputError(
                f"the queries' {view} is {theirs}, the gallery's {ours}: materialize their {made_by} again"
            )


def embeddings_recipe(workspace: Workspace, representation: Representation) -> str:
    """What makes embeddings of views: the representation, and its model as it is now."""
    trained = None if representation == "encoder" else model_fingerprint(workspace.model(representation))
    return fingerprint("embeddings", representation, trained)


def embeddings_signature(workspace: Workspace, representation: Representation, views: Views) -> str:
    """What embeddings of these views, made now, would be signed with."""
    return folder_signature(embeddings_recipe(workspace, representation), views)


def index_signature(workspace: Workspace, embeddings: str) -> str:
    """What an index over embeddings of that signature, made now, would be signed with."""
    return fingerprint("index", embeddings, workspace.profile.retrieval.index)
