"""Errors in OpenAI's shape."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from sea_ray.errors import ConfigError, MachineError


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    """Found value, rule, remedy."""
    type: str
    """OpenAI's class of it: invalid_request_error, authentication_error, rate_limit_error, server_error."""
    param: str | None
    """Field of the request."""
    code: str | None
    """OpenAI's name of it, where there is one."""


class ErrorBody(BaseModel):
    """The body of every response that is not a good one."""

    error: ErrorDetail


class ApiError(Exception):
    """What a client is told."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None,
                 kind: str = "invalid_request_error") -> None:
        """Args: status: of HTTP; message: found value, rule, remedy; param: field; code, kind: as OpenAI's."""
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.kind = status, message, param, code, kind


def error_response(error: ApiError) -> JSONResponse:
    """Return an error as a response."""
    headers = {"Retry-After": "1"} if error.status in (429, 503) else None
    body = {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}
    return JSONResponse({"error": body}, status_code=error.status, headers=headers)


def _invalid(error: RequestValidationError) -> ApiError:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "syntax error")
        return ApiError(400, f"the body is not JSON: {reason} at character {first['loc'][-1]}")
    place = [str(part) for part in first["loc"] if part != "body"]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "this field is not supported"
    return ApiError(400, f"{'.'.join(place)}: {message}" if place else message, param=place[0] if place else None)


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of an application answer in OpenAI's shape."""

    @app.exception_handler(ApiError)
    async def _api(_: Request, error: ApiError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(_invalid(error))

    @app.exception_handler(ConfigError)
    async def _config(_: Request, error: ConfigError) -> JSONResponse:
        return error_response(ApiError(400, error.message, param=error.path or None))

    @app.exception_handler(MachineError)
    async def _machine(_: Request, error: MachineError) -> JSONResponse:
        return error_response(ApiError(503, str(error), kind="server_error"))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        response = error_response(ApiError(error.status_code, str(error.detail)))
        response.headers.update(error.headers or {})  # of 405: what is allowed
        return response

    @app.exception_handler(Exception)
    async def _unforeseen(_: Request, error: Exception) -> JSONResponse:
        return error_response(ApiError(500, f"internal error ({type(error).__name__})", kind="server_error"))
