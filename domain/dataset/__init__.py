"""Users' training data: made empty, filled once by an upload that is judged, fetched by runs through grants."""
