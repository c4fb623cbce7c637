"""Positions of the places that benchmark sets name in their file names but do not georeference."""

from __future__ import annotations

REGIONS: dict[str, tuple[float, float]] = {
    # OpenEarthMap: the file name up to its last underscore.
    "aachen": (6.1, 50.8), "abancay": (-72.9, -13.6), "accra": (-0.2, 5.6), "adelaide": (138.6, -34.9),
    "al_qurnah": (47.4, 31.0), "austin": (-97.7, 30.3), "baybay": (124.8, 10.7), "bielefeld": (8.5, 52.0),
    "bogota": (-74.1, 4.7), "buenos_aires": (-58.5, -34.6), "chiangmai": (99.0, 18.8), "chicago": (-87.7, 41.9),
    "chiclayo": (-79.8, -6.8), "chincha": (-76.1, -13.4), "chisinau": (28.9, 47.0), "christchurch": (172.6, -43.5),
    "coxsbazar": (92.0, 21.4), "daressalaam": (39.2, -6.8), "dhaka": (90.4, 23.8), "dolnoslaskie": (16.4, 51.1),
    "dortmund": (7.5, 51.5), "dowa": (33.9, -13.7), "duesseldorf": (6.8, 51.2), "el_rodeo": (-90.8, 14.4),
    "gorakhpur": (83.4, 26.8), "houston": (-95.4, 29.8), "ica": (-75.7, -14.1), "jeremie": (-74.1, 18.6),
    "joplin": (-94.5, 37.1), "kagera": (31.4, -1.6), "kampala": (32.6, 0.3), "khartoum": (32.5, 15.6),
    "kinshasa": (15.3, -4.4), "kitsap": (-122.7, 47.6), "koeln": (7.0, 50.9), "kujawsko-pomorskie": (18.5, 53.1),
    "kyoto": (135.8, 35.0), "labuhan": (105.8, -6.4), "lambayeque": (-79.9, -6.7), "leilane_estates": (-154.9, 19.5),
    "les_cayes": (-73.8, 18.2), "lima": (-77.0, -12.0), "little_rock": (-92.3, 34.7), "lodzkie": (19.4, 51.6),
    "lohur": (70.6, 38.3), "lubelskie": (22.9, 51.2), "lubuskie": (15.3, 52.2), "mahe": (55.5, -4.7),
    "malopolskie": (20.3, 49.8), "maputo": (32.6, -25.9), "mazowieckie": (21.1, 52.3), "melbourne": (145.0, -37.8),
    "mexico_city": (-99.1, 19.4), "monrovia": (-10.8, 6.3), "muenster": (7.6, 52.0), "ngaoundere": (13.6, 7.3),
    "niamey": (2.1, 13.5), "oklahoma": (-97.5, 35.4), "opolskie": (17.9, 50.6), "palu": (119.9, -0.9),
    "panama_city": (-85.7, 30.2), "paris": (2.3, 48.9), "pedrogao_grande": (-8.2, 39.9), "pisco": (-76.2, -13.7),
    "piura": (-80.6, -5.2), "podkarpackie": (22.2, 50.0), "podlaskie": (22.9, 53.3), "pointenoire": (11.9, -4.8),
    "pomorskie": (18.0, 54.2), "port_a_piment": (-74.1, 18.3), "rio": (-43.3, -22.9), "rosario": (-60.7, -33.0),
    "rotterdam": (4.5, 51.9), "saint_louis_du_sud": (-73.6, 18.3), "san_tome": (6.7, 0.3),
    "santa_rosa": (-122.7, 38.5), "santiago": (-70.7, -33.5), "sechura": (-80.8, -5.6), "shanghai": (121.5, 31.2),
    "slaskie": (19.0, 50.3), "soriano": (-57.8, -33.5), "svaneti": (42.7, 43.0), "swietokrzyskie": (20.8, 50.8),
    "thousand_oaks": (-118.8, 34.2), "tokyo": (139.7, 35.7), "tonga": (-175.2, -21.2), "tulsa": (-95.9, 36.1),
    "tuscaloosa": (-87.6, 33.2), "tyrolw": (10.7, 47.1), "ulaanbaatar": (106.9, 47.9), "vegas": (-115.2, 36.2),
    "vienna": (16.4, 48.2), "viru": (-78.8, -8.4), "wallace": (-78.0, 34.7), "warminsko-mazurskie": (20.8, 53.9),
    "western": (-2.1, 5.5), "wielkopolskie": (17.0, 52.3), "zachodniopomorskie": (15.5, 53.6),
    "zanzibar": (39.2, -6.1),
    # ISPRS
    "potsdam": (13.06, 52.4), "vaihingen": (8.96, 48.93),
    # LoveDA
    "nanjing": (118.8, 32.06), "changzhou": (119.97, 31.8), "wuhan": (114.3, 30.6),
    # the aerial images of Dubai
    "dubai": (55.2, 25.1),
}  # fmt: skip
"""Longitude and latitude in degrees, to a tenth: enough for a climate zone, not for a map."""

ISLAND_ZONES: dict[str, str] = {"mahe": "Af", "tonga": "Af"}
"""Zones of islands that are too small for the climate map."""
