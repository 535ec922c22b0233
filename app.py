"""The browser front door: `make app`. Its pages live in `ui/`."""

from pathlib import Path

import streamlit as st

from ui import live, whatif

st.set_page_config(page_title="Forebay", page_icon="🌊", layout="wide")
what_if, serving = st.tabs(["What-if", "Live"])
with what_if:
    whatif.page((Path("scenarios"), Path("out/tour")))
with serving:
    live.panel((Path("out/tour"), Path("out")))
