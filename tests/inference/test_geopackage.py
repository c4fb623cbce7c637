import sqlite3
from contextlib import closing
from pathlib import Path

import geopandas
import pytest
import shapely

from geodistill.inference.geopackage import copy_styles


@pytest.mark.parametrize(
    "columns",
    [
        "id INTEGER PRIMARY KEY, f_table_name TEXT, f_geometry_column TEXT, styleName TEXT, styleQML TEXT, type TEXT",
        "id INTEGER, styleName TEXT, styleQML TEXT, f_geometry_column TEXT, f_table_name TEXT",
        "ID INTEGER PRIMARY KEY, F_TABLE_NAME TEXT, F_GEOMETRY_COLUMN TEXT, STYLENAME TEXT, STYLEQML TEXT",
    ],
)
def test_styles_are_taken_over_from_tables_of_other_columns(columns: str, tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"rank": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326)
    for name in ("earlier.gpkg", "new.gpkg"):
        frame.to_file(tmp_path / name, layer="next")
    with closing(sqlite3.connect(tmp_path / "earlier.gpkg")) as file, file:
        file.execute(f"CREATE TABLE layer_styles ({columns})")
        file.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, srs_id) VALUES ('layer_styles', 'attributes', 0)"
        )
        for name in ("one", "two"):
            values = (name, "next", "geom", "<qgis/>")
            file.execute(
                "INSERT INTO layer_styles (id, styleName, f_table_name, f_geometry_column, styleQML)"
                " VALUES (NULL, ?, ?, ?, ?)",
                values,
            )
    copy_styles(tmp_path / "new.gpkg", tmp_path / "earlier.gpkg")
    styles = geopandas.read_file(tmp_path / "new.gpkg", layer="layer_styles")
    assert styles["styleName"].tolist() == ["one", "two"]
    assert styles["f_table_name"].tolist() == ["next", "next"]
    assert styles["styleQML"].tolist() == ["<qgis/>", "<qgis/>"]
