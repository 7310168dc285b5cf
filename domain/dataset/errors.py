"""What the dataset room refuses. What is wrong with a file's content is `domain/dataset/file_errors.py`."""

from domain.dataset.file_errors import UnreadableFile
from domain.errors import Conflict, Invalid, LimitReached, NotFound, Unavailable


class BadDatasetName(Invalid):
    """A name is shown to people; it is never a path or a header."""

    code = "BAD_DATASET_NAME"
    en = (
        "This cannot be a dataset's name: use 1 to {longest} letters, digits, blanks and signs, without slashes,"
        " '..', control characters or their encodings."
    )
    pt = (
        "Este não pode ser o nome de um conjunto de dados: use de 1 a {longest} letras, números, espaços e sinais,"
        " sem barras, '..', caracteres de controle nem suas codificações."
    )

    def __init__(self, longest: int) -> None:
        super().__init__(field=("name",), longest=longest)


class TooManyDatasets(LimitReached):
    """More datasets than a user may have."""

    code = "TOO_MANY_DATASETS"
    en = "You have {limit} datasets, and may not have more; delete one that you no longer need."
    pt = "Você tem {limit} conjuntos de dados e não pode ter mais; exclua um de que não precisa."

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)


class DatasetInUse(Conflict):
    """Runs that have not ended need it."""

    code = "DATASET_IN_USE"
    en = "{runs} of your runs use this dataset and have not ended; cancel them or wait, then delete it."
    pt = "{runs} das suas execuções usam este conjunto de dados e não terminaram; cancele-as ou espere, e então exclua."

    def __init__(self, runs: int) -> None:
        super().__init__(runs=runs)


class DatasetNotReady(Conflict):
    """It has no content yet."""

    code = "DATASET_NOT_READY"
    en = "This dataset has no content yet: upload it first, with PUT to the dataset's uploadUrl."
    pt = "Este conjunto de dados ainda não tem conteúdo: envie-o primeiro, com PUT para o uploadUrl."

    def __init__(self) -> None:
        super().__init__(field=("datasetId",))


class DatasetAlreadyUploaded(Conflict):
    """Its bytes never change once they are there."""

    code = "DATASET_ALREADY_UPLOADED"
    en = "This dataset has its content already, and it is another one; create a new dataset for these bytes."
    pt = "Este conjunto de dados já tem conteúdo, e é outro; crie um novo conjunto de dados para estes bytes."


class DatasetBeingUploaded(Conflict):
    """Somebody else's bytes are on their way."""

    code = "DATASET_BEING_UPLOADED"
    en = "Another upload to this dataset is under way; wait for its end, or create a dataset of its own."
    pt = "Outro envio para este conjunto de dados está em andamento; espere o fim ou crie outro conjunto."

    def __init__(self) -> None:
        super().__init__(retry_after_seconds=30)


class UploadTooLarge(LimitReached):
    """More bytes than this installation takes."""

    code = "UPLOAD_TOO_LARGE"
    en = "The upload is larger than {limit} bytes; split it, or compress it as a ZIP."
    pt = "O envio é maior que {limit} bytes; divida-o ou comprima-o como ZIP."

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)


class UploadStalled(Invalid):
    """No bytes for too long."""

    code = "UPLOAD_STALLED"
    en = "No bytes came for {seconds:g} seconds; send the upload again from its beginning."
    pt = "Nenhum byte chegou por {seconds:g} segundos; envie de novo desde o início."

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds=seconds)


class ChecksumMismatch(Invalid):
    """What came is not what was announced."""

    code = "CHECKSUM_MISMATCH"
    en = "The received bytes have the SHA-256 {found}, not the announced one; send them again."
    pt = "Os bytes recebidos têm o SHA-256 {found}, não o anunciado; envie-os de novo."

    def __init__(self, found: str) -> None:
        super().__init__(field=("Content-Digest",), found=found)


class BadContentDigest(Invalid):
    """A checksum in words we do not know."""

    code = "BAD_CONTENT_DIGEST"
    en = "The header Content-Digest must be 'sha-256=:<base64 of 32 bytes>:' (RFC 9530), or be left out."
    pt = "O cabeçalho Content-Digest deve ser 'sha-256=:<base64 de 32 bytes>:' (RFC 9530) ou ser omitido."

    def __init__(self) -> None:
        super().__init__(field=("Content-Digest",))


class EncodedUpload(Invalid):
    """Compressed on the way, which nobody undoes."""

    code = "ENCODED_UPLOAD"
    en = "Send the file as it is, without Content-Encoding; a ZIP is the way to send it compressed."
    pt = "Envie o arquivo como ele é, sem Content-Encoding; para enviar comprimido, use um ZIP."

    def __init__(self) -> None:
        super().__init__(field=("Content-Encoding",))


class DownloadNotFound(NotFound):
    """The token opens nothing: unknown, expired, revoked, of a run that ended. Nobody can tell which."""

    code = "DOWNLOAD_NOT_FOUND"
    en = "This token opens nothing: it is unknown, or its time or its run has ended."
    pt = "Este token não abre nada: é desconhecido, ou seu prazo ou sua execução terminou."

    def __init__(self) -> None:
        super().__init__("Download")


class DiskFull(Unavailable):
    """No room for the bytes."""

    code = "DISK_FULL"
    en = "There is no room for this upload on the server; nothing was stored. Try again later, or tell the operator."
    pt = "Não há espaço para este envio no servidor; nada foi guardado. Tente mais tarde ou avise o operador."

    def __init__(self) -> None:
        super().__init__(retry_after_seconds=300)


__all__ = [
    "BadContentDigest",
    "BadDatasetName",
    "ChecksumMismatch",
    "DatasetAlreadyUploaded",
    "DatasetBeingUploaded",
    "DatasetInUse",
    "DatasetNotReady",
    "DiskFull",
    "DownloadNotFound",
    "EncodedUpload",
    "TooManyDatasets",
    "UnreadableFile",
    "UploadStalled",
    "UploadTooLarge",
]
