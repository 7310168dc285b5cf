"""What can be wrong with an uploaded file. Each says where, and how to mend it; lines and columns count from 1."""

from typing import Any

from domain.errors import DomainError, Invalid


class UnreadableFile(Invalid):
    """The file's content cannot be used. The dataset stays EMPTY and keeps nothing of it."""

    code = "UNREADABLE_FILE"
    en = "The file cannot be read; check it, and upload it again."
    pt = "O arquivo não pode ser lido; verifique-o e envie-o de novo."

    def __init__(self, **params: Any) -> None:
        DomainError.__init__(self, **params)  # the words are each error's own; `Invalid` would add empty ones


class EmptyFile(UnreadableFile):
    """Not a byte, or nothing but blank lines."""

    code = "EMPTY_FILE"
    en = "The file is empty; upload one with a header and at least one row."
    pt = "O arquivo está vazio; envie um com cabeçalho e pelo menos uma linha."


class NoRows(UnreadableFile):
    """A header alone."""

    code = "NO_ROWS"
    en = "The file names columns but holds no rows; upload one with at least one row."
    pt = "O arquivo tem colunas, mas nenhuma linha de dados; envie um com pelo menos uma."


class NotUtf8(UnreadableFile):
    """Another encoding, or no text at all."""

    code = "NOT_UTF8"
    en = "The file is not UTF-8 text: byte {offset} is 0x{value:02X}. Save it as UTF-8."
    pt = "O arquivo não é texto UTF-8: o byte {offset} é 0x{value:02X}. Salve-o como UTF-8."

    def __init__(self, offset: int, value: int) -> None:
        super().__init__(offset=offset, value=value)


class NulByte(UnreadableFile):
    """Text holds none; UTF-16 and binary files do."""

    code = "NUL_BYTE"
    en = "The file is not text: byte {offset}, in line {line}, is NUL. Save it as UTF-8 text."
    pt = "O arquivo não é texto: o byte {offset}, na linha {line}, é NUL. Salve-o como texto UTF-8."

    def __init__(self, offset: int, line: int) -> None:
        super().__init__(offset=offset, line=line)


class LineTooLong(UnreadableFile):
    """A row that would have to be held in memory as a whole."""

    code = "LINE_TOO_LONG"
    en = "Line {line} belongs to a row of more than {limit} bytes; check its quotes and line ends."
    pt = "A linha {line} faz parte de um registro com mais de {limit} bytes; verifique as aspas e os fins de linha."

    def __init__(self, line: int, limit: int) -> None:
        super().__init__(line=line, limit=limit)


class ValueTooLong(UnreadableFile):
    """Mostly a quote that nobody closed."""

    code = "VALUE_TOO_LONG"
    en = "A value in line {line} is longer than {limit} characters; shorten it, or check its quotes."
    pt = "Um valor na linha {line} tem mais de {limit} caracteres; encurte-o ou verifique as aspas."

    def __init__(self, line: int, limit: int) -> None:
        super().__init__(line=line, limit=limit)


class RaggedRow(UnreadableFile):
    """More or fewer values than columns."""

    code = "RAGGED_ROW"
    en = "Line {line} has {found} values, but the header names {expected} columns; mend that row."
    pt = "A linha {line} tem {found} valores, mas o cabeçalho tem {expected} colunas; corrija essa linha."

    def __init__(self, line: int, found: int, expected: int) -> None:
        super().__init__(line=line, found=found, expected=expected)


class BadColumnName(UnreadableFile):
    """A column that nobody could name."""

    code = "BAD_COLUMN_NAME"
    en = "The name of column {position} is empty, too long (over {longest}) or holds control characters; mend it."
    pt = "O nome da coluna {position} está vazio, é longo (mais de {longest}) ou tem caracteres de controle; corrija-o."

    def __init__(self, position: int, longest: int) -> None:
        super().__init__(position=position, longest=longest)


class DuplicateColumn(UnreadableFile):
    """A name that means two columns."""

    code = "DUPLICATE_COLUMN"
    en = "Two columns are named '{name}'; give each a name of its own."
    pt = "Duas colunas se chamam '{name}'; dê a cada uma o seu nome."

    def __init__(self, name: str) -> None:
        super().__init__(name=name)


class TooManyColumns(UnreadableFile):
    """Wider than a report can be."""

    code = "TOO_MANY_COLUMNS"
    en = "The file has more than {limit} columns; leave some out."
    pt = "O arquivo tem mais de {limit} colunas; retire algumas."

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)


class BrokenCsv(UnreadableFile):
    """The reader gave up; `reason` is in its words."""

    code = "BROKEN_CSV"
    en = "Line {line} is not valid CSV ({reason}); check its quotes and line ends."
    pt = "A linha {line} não é CSV válido ({reason}); verifique as aspas e os fins de linha."

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line=line, reason=reason)


class BrokenJsonLine(UnreadableFile):
    """Not JSON, or not an object."""

    code = "BROKEN_JSON_LINE"
    en = "Line {line} is not a JSON object ({reason}); write one object per line."
    pt = "A linha {line} não é um objeto JSON ({reason}); escreva um objeto por linha."

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line=line, reason=reason)


class BrokenZip(UnreadableFile):
    """Cut, damaged, or something else."""

    code = "BROKEN_ZIP"
    en = "This is not a whole ZIP archive ({reason}); pack it again."
    pt = "Isto não é um arquivo ZIP íntegro ({reason}); compacte-o de novo."

    def __init__(self, reason: str) -> None:
        super().__init__(reason=reason)


class UnsafeZip(UnreadableFile):
    """Made to harm whoever unpacks it."""

    code = "UNSAFE_ZIP"
    en = "The ZIP is refused: {reason}. Pack plain CSV or JSONL files only."
    pt = "O ZIP foi recusado: {reason_pt}. Compacte apenas arquivos CSV ou JSONL comuns."

    def __init__(self, reason: str, reason_pt: str) -> None:
        super().__init__(reason=reason, reason_pt=reason_pt)


class NotOneFile(UnreadableFile):
    """Nobody could say which of them to train on."""

    code = "ZIP_NOT_ONE_FILE"
    en = "The ZIP holds {found} CSV or JSONL files; it must hold exactly one, or none but pictures (JPEG, PNG, WebP)."
    pt = "O ZIP contém {found} arquivos CSV ou JSONL; deve conter exatamente um, ou só fotos (JPEG, PNG, WebP)."

    def __init__(self, found: int) -> None:
        super().__init__(found=found)
